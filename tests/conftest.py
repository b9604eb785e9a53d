"""One small pipeline, run for real, that many tests look at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from clones import Project, clone

settings.register_profile("patient", deadline=None)  # a machine may be busy with other things
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "CAR_OR_TRUCK_DEBUG"):
        monkeypatch.delenv(name, raising=False)


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
