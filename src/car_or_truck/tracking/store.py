"""Where MLflow keeps runs and models; quick to import, unlike training.py, which brings TensorFlow.

Runs are written to the project's own store, which is always available. Where MLFLOW_TRACKING_URI
names a server, delivery.py copies them there: a training never waits for it, and loses nothing with it.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from car_or_truck import paths
from car_or_truck.errors import Failure, mask_passwords
from car_or_truck.tracking import processes, relocation

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A dead or slow server is noticed within seconds; with MLflow's defaults, one call would take many minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.pop("MLFLOW_REGISTRY_URI", None)  # models are registered where their runs are

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from car_or_truck.tracking.faults import LOCAL, unusable

for noisy in ("mlflow", "alembic"):
    logging.getLogger(noisy).setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # the traceback of an error that is raised, too

CHOSEN = os.environ.get("MLFLOW_TRACKING_URI")  # by the person; MLflow overwrites the variable
PATIENCE = 3.0  # seconds of waiting for another command, before a word about it
CREATION_SECONDS = 10  # after which a store that another process is creating counts as given up
ABOUT = (
    "One run a trained model: a variant of params.yaml trained with one seed. loss, binary_accuracy, val_loss and "
    "val_binary_accuracy are its curves over the epochs, from 1. accuracy, roc_auc and calibration_error describe the "
    "saved weights on validation, generalization_gap is their accuracy on train minus that on validation; "
    "training_gap is that of the last epoch, as logged in training; overfit_epoch is the epoch of the lowest val_loss, "
    "overfit_rise its rise since. All scores are in trace/evaluation.json. "
    "Runs named comparison hold the report on all models: report.html among their artifacts."
)


def server() -> str | None:
    """The tracking server that MLFLOW_TRACKING_URI names; None when it names none, or a file."""
    try:
        scheme = urlsplit(CHOSEN or "").scheme
    except ValueError as error:
        raise Failure(f"MLFLOW_TRACKING_URI is {mask_passwords(CHOSEN or '')}, which is no address: {error}.") from None
    if not CHOSEN or CHOSEN.startswith(LOCAL):
        return None
    if "://" not in CHOSEN or scheme in ("file", "sqlite"):  # MLflow has no stores in folders any more
        raise Failure(f"MLFLOW_TRACKING_URI is {CHOSEN}, where no runs can be: give http://HOST:PORT or {LOCAL}FILE.")
    return CHOSEN


def own() -> str:
    """The store that runs are written to: the file that MLFLOW_TRACKING_URI names, else mlflow.db at the root."""
    if not CHOSEN or server():
        return default_store()
    # Seen from the root, wherever the person or DVC stands.
    return f"{LOCAL}{paths.root() / _file(CHOSEN)}"


def uri() -> str:
    """The store that people look at: the server, if there is one, else the project's own."""
    return server() or own()


def default_store() -> str:
    """mlflow.db at the root, which a bare `mlflow ui` opens. Raises Failure for a root that no address can hold."""
    root = paths.root()
    if special := re.search(r"\?|%[0-9A-Fa-f]{2}", str(root)):
        raise Failure(f"{root} has {special[0]} in its path, which means something else in an address: rename it.")
    return f"{LOCAL}{root / 'mlflow.db'}"


def exists() -> bool:
    """Whether the project has a store of its own; a client of MLflow's would create one."""
    return _file(own()).is_file()


def create_experiment(client: mlflow.MlflowClient, name: str, tags: dict[str, str]) -> str:
    """A new experiment, or that of another process which was quicker; returns its id.

    The project's own store keeps its artifacts in mlruns/NAME, by an absolute path: what DVC runs in a temporary
    folder shares that store. Elsewhere the store itself decides.
    """
    location = (_file(own()).parent / "mlruns" / name).as_uri() if client.tracking_uri == own() else None
    try:
        return str(client.create_experiment(name, location, tags=tags))
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return str(experiment.experiment_id)


def about(note: str) -> dict[str, str]:
    """The tags of an experiment with a note, and views as MLflow has them for models."""
    return {"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"}


def ensure_registered_model(client: mlflow.MlflowClient, name: str, about: str) -> None:
    """Create a registered model, unless there is one of that name."""
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def refuse_trashed(experiment: Any, where: str) -> None:
    """Raise Failure for an experiment of the store `where` that is in the trash."""
    if experiment.lifecycle_stage == "deleted":
        raise Failure(
            f"The MLflow experiment {experiment.name!r} is in the trash. This brings it back:\n"
            f"  mlflow experiments restore --experiment-id {experiment.experiment_id}, "
            f"with MLFLOW_TRACKING_URI={where}"
        )


def open_store() -> mlflow.MlflowClient:
    """A client of the store that people look at; Failure when there is none, or it does not answer."""
    where = uri()
    if where.startswith(LOCAL) and not _file(where).is_file():
        raise Failure(f"There is no MLflow store {_file(where)}. Run `dvc repro`, or after a loss `car-or-truck sync`.")
    with _errors_explained(where):
        mlflow.set_tracking_uri(where)
        client = mlflow.MlflowClient()
        client.search_experiments(max_results=1)
    return client


def connect(experiment: str, note: str = ABOUT) -> str:
    """Use the project's own store, creating it and the experiment with its note if need be.

    Returns the experiment's id. Raises Failure when the store cannot be used.
    """
    where = own()
    with one_at_a_time("mlflow"), _errors_explained(where):  # processes that create one SQLite store at once break it
        if not _file(where).exists():
            _create_database(_file(where))
        mlflow.set_tracking_uri(where)
        stored_experiment = mlflow.get_experiment_by_name(experiment)
        if stored_experiment is None:
            return create_experiment(mlflow.MlflowClient(), experiment, about(note))
        refuse_trashed(stored_experiment, where)
        _close_abandoned(stored_experiment.experiment_id)
        return str(stored_experiment.experiment_id)


def make_independent() -> bool:
    """Give the project's own store artifacts of its own, if it is a copy; returns whether it was one, or was moved."""
    with one_at_a_time("mlflow"):
        return relocation.settle(_file(own()), independent=True)


def _create_database(path: Path) -> None:
    """Create an SQLite store under another name and rename it when it is whole: a kill leaves no half-made one."""
    if path.is_symlink():
        raise Failure(f"{path} is a link to {path.readlink()}, which is not there. Mount its disk, or remove the link.")
    part = path.with_name(f"{path.name}.part")
    for leftover in path.parent.glob(f"{part.name}*"):  # SQLite's journal too: it would be applied to the new file
        leftover.unlink()
    mlflow.MlflowClient(f"{LOCAL}{part}").search_experiments(max_results=1)
    part.rename(path)


def _file(where: str) -> Path:
    return Path(where.removeprefix(LOCAL))


@contextmanager
def _errors_explained(where: str) -> Iterator[None]:
    """Turn whatever the store raises into a Failure that names it, and the way out."""
    if where.startswith(LOCAL):
        _check_whole(_file(where))
        relocation.settle(_file(where))
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # the last: a database without its driver
        raise unusable(error, where) from error


def _check_whole(path: Path) -> None:
    """Raise Failure for a store whose creation was cut off; waits while another process may be creating it."""
    deadline = time.monotonic() + CREATION_SECONDS
    while _is_half_made(path):
        if time.monotonic() >= deadline:
            raise Failure(
                f"{path} is incomplete: the process that was creating it was killed, so it holds no runs. "
                "Delete it; `dvc repro` or `car-or-truck sync` creates it again."
            )
        time.sleep(0.5)


def _is_half_made(path: Path) -> bool:
    """Whether an SQLite store has tables but no experiment: MLflow adds its default one when all tables are there."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=20)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return bool(tables) and (
                "experiments" not in tables or database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is None
            )
    except sqlite3.Error:
        return False  # there is none, or MLflow says what is wrong


def _close_abandoned(experiment: str) -> None:
    """Mark runs as KILLED that are RUNNING although their process on this machine is gone."""
    client = mlflow.MlflowClient()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if processes.is_gone(run.data.tags.get(processes.TAG, "")):
            client.set_terminated(run.info.run_id, "KILLED")
            print(f"MLflow run {run.info.run_name}: its process is gone, so it is marked KILLED.", flush=True)


@contextmanager
def one_at_a_time(purpose: str) -> Iterator[None]:
    """A lock between the processes of one project."""
    if not (paths.root() / ".dvc").is_dir():
        yield
        return
    lock = FileLock(paths.scratch("locks") / f"{purpose}.lock")
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"Another car-or-truck command holds {lock.lock_file}; waiting for it ...", file=sys.stderr, flush=True)
        lock.acquire()
    except OSError as error:
        raise Failure(f"Cannot write {lock.lock_file}: {error.strerror or error}.") from None
    try:
        yield
    finally:
        lock.release()
