"""Where MLflow keeps runs and models; quick to import, unlike tracking, which brings TensorFlow.

Runs are written to the project's own store, which is at hand and quick. Where MLFLOW_TRACKING_URI
names a server, delivery.py brings them there: training never waits for it, and loses nothing with it.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from filelock import FileLock

from car_or_truck import paths
from car_or_truck.errors import Failure

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A server that is gone or slow is noticed within seconds; as MLflow comes, one call would take many minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

import mlflow
from mlflow.exceptions import MlflowException

for noisy in ("mlflow", "alembic"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

CHOSEN = os.environ.get("MLFLOW_TRACKING_URI")  # by the person: MLflow writes there whatever store it uses last
LOCAL = "sqlite:///"
MOST_METRICS = 1000  # that a store takes in one batch
MOST_PARAMS = 100
PROCESS = "process"  # the tag of the process that writes a run
ABOUT = (
    "One run for each cell: a variant of params.yaml trained with one seed. To compare overfitting, select runs, "
    "press Compare, and plot val_loss and loss over the step (the epoch, from 1). generalization_gap is final "
    "binary_accuracy minus final val_binary_accuracy; overfit_epoch is where val_loss was lowest, overfit_rise how "
    "much it has risen since. kept_... and val_... describe the weights that were kept. The runs named comparison hold "
    "the report on all cells of one state of params.yaml: report.html among their artifacts."
)


def server() -> str | None:
    """The tracking server that MLFLOW_TRACKING_URI names; None when it names none, or a file."""
    return CHOSEN if CHOSEN and urlsplit(CHOSEN).scheme not in ("", "file", "sqlite") else None


def own() -> str:
    """The store that runs are written to: the file that MLFLOW_TRACKING_URI names, else mlflow.db at the root."""
    return CHOSEN if CHOSEN and not server() else f"{LOCAL}{paths.root() / 'mlflow.db'}"


def uri() -> str:
    """The store that people look at: the server where there is one, else the project's own."""
    return server() or own()


def open_store() -> mlflow.MlflowClient:
    """A client of the store that people look at; Failure when there is none, or it does not answer."""
    where = uri()
    if where.startswith(LOCAL) and not Path(where.removeprefix(LOCAL)).is_file():
        raise Failure(f"There is no MLflow store {where.removeprefix(LOCAL)} yet. Run `dvc repro`.")
    mlflow.set_tracking_uri(where)
    client = mlflow.MlflowClient()
    try:
        client.search_registered_models(max_results=1)
    except (MlflowException, OSError) as error:
        raise unusable(error) from error
    return client


def connect(experiment: str, where: str | None = None) -> str:
    """Use the store `where` (the project's own if None), and make the experiment if need be; returns its id.

    Raises Failure when the store cannot be reached.
    """
    where, root = where or own(), paths.root()
    mlflow.set_tracking_uri(where)
    # Absolute, because an experiment that DVC runs in a temporary folder shares the store.
    artifacts = (root / "mlruns" / experiment).as_uri() if where == f"{LOCAL}{root / 'mlflow.db'}" else None
    try:
        with one_at_a_time("mlflow"):  # several processes that create one SQLite store at once break it
            found = mlflow.get_experiment_by_name(experiment)
            if found is None:
                about = {"mlflow.note.content": ABOUT, "mlflow.experimentKind": "custom_model_development"}
                return str(mlflow.MlflowClient().create_experiment(experiment, artifacts, tags=about))
            if found.lifecycle_stage == "deleted":
                raise Failure(
                    f"The MLflow experiment {experiment!r} is in the trash: restore it in the UI, or run `mlflow gc`."
                )
            if where == own():
                _close_abandoned(found.experiment_id)
            return str(found.experiment_id)
    except (MlflowException, OSError) as error:
        raise unusable(error, where) from error


def this_process() -> str:
    """This process, as no other one on any machine was or will be called."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def _close_abandoned(experiment: str) -> None:
    """Mark as KILLED the runs that say RUNNING, and whose process on this machine is gone."""
    client = mlflow.MlflowClient()
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        node, _, process = run.data.tags.get(PROCESS, "").partition(":")
        pid, _, created = process.partition(":")
        if node != platform.node():
            continue
        try:
            alive = f"{psutil.Process(int(pid)).create_time():.2f}" == created
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            client.set_terminated(run.info.run_id, "KILLED")
            print(f"MLflow run {run.info.run_name} was left RUNNING by a process that is gone: now KILLED.", flush=True)


@contextmanager
def one_at_a_time(purpose: str) -> Iterator[None]:
    """The processes of one project take turns."""
    folder = paths.root() / ".dvc" / "tmp"
    if not folder.parent.is_dir():
        yield
        return
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{purpose}.lock"):
        yield


def unusable(error: Exception, where: str | None = None) -> Failure:
    """What to tell of a store that does not answer."""
    return Failure(
        f"The MLflow store {where or uri()} cannot be used: {' '.join(str(error).split())[:300]}. "
        "Start its server, or unset MLFLOW_TRACKING_URI to use mlflow.db here."
    )
