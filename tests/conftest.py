"""One small pipeline, run for real, that many tests look at."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sqlite3
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings
from mlflow.store.db import utils as mlflow_database
from sqlalchemy import event
from sqlalchemy.engine import Engine

import car_or_truck.train.runtime  # noqa: F401  # sets what TensorFlow reads when a test imports it
from helpers.clones import FOREIGN, IMPERSONAL, SPARING, Project, clone, copy
from helpers.stores import Store

if TYPE_CHECKING:
    import mlflow

# Files with minutes of slow tests: they come early, lest one process is left alone with them.
LONG = {
    f"test_{name}.py"
    for name in (
        "browser", "checkpoint", "cluster", "copies", "experiments", "interruptions", "notebooks", "relocation",
        "repro", "reproduce", "served", "server", "sync", "team", "tune", "work", "workflows",
    )
}  # fmt: skip

settings.register_profile("patient", deadline=None)  # a machine may be busy with other things
settings.load_profile("patient")


@event.listens_for(Engine, "connect")
def never_wait_for_the_disk(connection: object, _: object) -> None:
    """A power cut may spoil a test's database; a kill does not. Making one waits for the disk a thousand times."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.Error):  # of a file that is no database
            connection.execute("PRAGMA synchronous=OFF")


def pytest_configure() -> None:
    gc.set_threshold(50_000)  # as the command does
    # MLflow reads 67 files for it, each time that a store is opened
    mlflow_database._get_latest_schema_revision = cache(mlflow_database._get_latest_schema_revision)
    forget_environment()  # before anything imports store.py, which reads it
    os.environ |= IMPERSONAL | SPARING
    # `dvc` and `car-or-truck` of this environment, which may not be activated
    bin_folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([bin_folder, os.environ["PATH"]])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files: one process makes `finished`, and the other meanwhile takes those that do not need it."""
    need_it = {item.path for item in items if "finished" in getattr(item, "fixturenames", ())}
    items.sort(
        key=lambda item: (item.path.name != "test_pipeline.py", item.path in need_it, item.path.name not in LONG)
    )


def pytest_collection_finish() -> None:
    """Search less for garbage: none of the imports' is any, and Keras's clear_session searches through all the rest."""
    gc.collect()
    gc.freeze()
    if "keras" in sys.modules:
        from keras.src.backend.common import global_state

        global_state.gc = SimpleNamespace(collect=lambda: 0)


@pytest.fixture(autouse=True)
def no_environment_from_elsewhere() -> Iterator[None]:
    """Not by monkeypatch, which would give it back to the next module's fixtures."""
    forget_environment()  # MLflow sets MLFLOW_TRACKING_URI when a fixture chooses a store,
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri("nowhere:")  # no test goes on in the store of the one before
    forget_environment()  # or a test does, or the line above


def forget_environment() -> None:
    for name in FOREIGN:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all the processes that share the tests."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def dvc_leaves_nothing_in_var_tmp(shared: Path) -> None:
    os.environ["DVC_SITE_CACHE_DIR"] = str(shared / "dvc")


@pytest.fixture(scope="session")
def finished(shared: Path) -> Project:
    """A clone whose pipeline has run to its end. Tests that change it use `project`."""
    root, console = shared / "finished" / "project", shared / "finished" / "project" / "console.txt"
    with FileLock(shared / "finished.lock"):
        if not console.exists():
            shutil.rmtree(root, ignore_errors=True)  # of a pipeline that failed
            output = clone(root).run("dvc", "repro")
            console.write_text(output)
    return Project(root)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished clone, to change."""
    return copy(finished, tmp_path / "project")


@pytest.fixture
def standing_in_finished(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.root)


@pytest.fixture
def client(project: Project, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """Of the store of a copy of the finished clone; the test stands in that copy."""
    from mlflow.tracking._tracking_service import utils

    from car_or_truck.tracking import store

    # MLflow remembers by a run's id where its artifacts are; every copy has the same runs.
    monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())
    monkeypatch.chdir(project.root)
    return store.open_store()


@pytest.fixture(scope="session")
def empty_database(shared: Path) -> Path:
    """An MLflow database with nothing in it: making one takes seconds, copying it none."""
    import mlflow

    draft, empty = shared / "made.db", shared / "empty.db"
    with FileLock(shared / "database.lock"):
        if not empty.exists():
            mlflow.MlflowClient(f"sqlite:///{draft}").search_experiments()
            draft.rename(empty)  # no engine of MLflow's has it open, so that no test can write into it
    return empty


@pytest.fixture
def small_store(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store without versions, in a project's folder that the test stands in."""
    store = Store(tmp_path / "store", empty_database)
    monkeypatch.chdir(store.root)
    return store


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that is bound, but at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
