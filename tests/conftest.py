"""One small pipeline, run for real, that many tests look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from helpers.clones import FOREIGN, Project, clone
from helpers.stores import Store

settings.register_profile("patient", deadline=None)  # a machine may be busy with other things
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it when a test chooses a store


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose pipeline has run to its end. Tests that change it use `project`."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one clone for all the processes that share the tests
    root, console = shared / "finished" / "project", shared / "finished" / "project" / "console.txt"
    with FileLock(shared / "finished.lock"):
        if not console.exists():
            said = clone(root).run("dvc", "repro")
            console.write_text(said)
    return Project(root)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished clone, to change."""
    shutil.copytree(finished.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with nothing in it: making one takes seconds, copying it none."""
    import mlflow

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.search_experiments()
    return path


@pytest.fixture
def small_store(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store without versions, in a project's folder that the test stands in."""
    made = Store(tmp_path / "store", empty_database)
    monkeypatch.chdir(made.root)
    return made
