"""MLflow: runs, their models, and the registry. The only file that imports mlflow.

A run belongs to a cell by the tag `cell`, the cell's fingerprint: outputs hold no run id, so an
output that DVC restores never points at a run that is gone.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from car_or_truck import engine, labels, layout
from car_or_truck.checkpoint import State
from car_or_truck.errors import Failure
from car_or_truck.history import METRICS
from car_or_truck.progress import Progress

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.keras
import mlflow.tensorflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.keras.callback import MlflowCallback
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

for noisy in ("mlflow", "alembic"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

MOST_METRICS = 1000  # that a store takes in one batch
ABOUT = (
    "One run for each cell: a variant of params.yaml trained with one seed. To compare overfitting, select runs, "
    "press Compare, and plot val_loss and loss over the step (the epoch, from 1). generalization_gap is final "
    "binary_accuracy minus final val_binary_accuracy; overfit_epoch is where val_loss was lowest, overfit_rise how "
    "much it has risen since."
)


def connect(cell: dict[str, Any]) -> str:
    """Choose the store, make the cell's experiment if need be; returns the experiment's id.

    The store is MLFLOW_TRACKING_URI where set, else mlflow.db and mlruns/ at the project's root.
    Raises Failure when it cannot be reached.
    """
    root, name = layout.root(), labels.experiment_name(cell)
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(chosen or f"sqlite:///{root / 'mlflow.db'}")
    # Absolute, because an experiment that DVC runs in a temporary folder shares the store.
    artifacts = None if chosen else (root / "mlruns" / name).as_uri()
    try:
        with _one_at_a_time(root):
            found = mlflow.get_experiment_by_name(name)
            if found is None:
                about = {"mlflow.note.content": ABOUT, "mlflow.experimentKind": "custom_model_development"}
                return str(mlflow.MlflowClient().create_experiment(name, artifacts, tags=about))
            if found.lifecycle_stage == "deleted":
                raise Failure(
                    f"The MLflow experiment {name!r} is in the trash: restore it in the UI, or run `mlflow gc`."
                )
            return str(found.experiment_id)
    except (MlflowException, OSError) as error:
        raise Failure(
            f"The MLflow store {mlflow.get_tracking_uri()} cannot be used: {' '.join(str(error).split())[:300]}. "
            "Start its server, or unset MLFLOW_TRACKING_URI to use mlflow.db here."
        ) from error


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Several processes that create one SQLite store at once break it: they take turns."""
    folder = root / ".dvc" / "tmp"
    if not folder.parent.is_dir():
        yield
        return
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "mlflow.lock"):
        yield


class _EpochsFromOne(MlflowCallback):  # type: ignore[misc]
    """MLflow's own callback, with the epochs counted as in history.csv, and once.

    As it comes it counts them from 0, and logs each validation again, as `validation_*` at step 0.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch + 1, logs)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        pass


@contextmanager
def training(cell: dict[str, Any], state: State) -> Iterator[list[Any]]:
    """A run for the cell, with Keras autologging; yields the callbacks that `fit` needs.

    A training that is taken up again goes on in its own run, where the store still has it. The run
    ends as FAILED when the block raises, KILLED when the person interrupts it.
    """
    import mlflow.keras.autologging

    experiment, name = connect(cell), labels.run_name(cell)
    callbacks: list[Any] = [Progress(name, sum(cell["data"]["counts"]["train"].values()))]
    resumed = _known(state.run_id)
    if resumed:
        # Autologging would refuse: `initial_epoch` differs from the parameter that it logged before.
        run = mlflow.start_run(run_id=state.run_id)
        callbacks.append(_EpochsFromOne())
        print(f"{name} goes on after epoch {state.epoch}.", flush=True)
    else:
        mlflow.keras.autologging.MlflowCallback = _EpochsFromOne
        # Datasets: MLflow would read them whole to hash them. Models: it would log the last weights, not those kept.
        mlflow.keras.autolog(log_datasets=False, log_models=False)
        run = mlflow.start_run(experiment_id=experiment, run_name=name, tags=labels.tags(cell))
        state.run_id = run.info.run_id
    status = "FAILED"
    try:
        if not resumed:
            _describe_run(cell)
        _log_epochs(run.info.run_id, state.rows)
        yield callbacks
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.flush_async_logging()
        mlflow.end_run(status)
        mlflow.keras.autolog(disable=True)
        print(f"MLflow run {name} in experiment {labels.experiment_name(cell)}: {status}", flush=True)


def _known(run_id: str | None) -> bool:
    if run_id is None:
        return False
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _log_epochs(run_id: str, rows: list[dict[str, float]]) -> None:
    """Log those epochs of a history that the run lacks: what was on its way when a process was killed."""
    client, now = mlflow.MlflowClient(), round(1000 * time.time())
    points = []
    for name in METRICS:
        known = {point.step for point in client.get_metric_history(run_id, name)} if rows else set()
        points += [Metric(name, row[name], now, int(row["epoch"])) for row in rows if int(row["epoch"]) not in known]
    for start in range(0, len(points), MOST_METRICS):
        client.log_batch(run_id, metrics=points[start : start + MOST_METRICS])


def _describe_run(cell: dict[str, Any]) -> None:
    """Into the active run: the recipe as parameters, the data as inputs."""
    mlflow.log_params(labels.parameters(cell))
    source = CodeDatasetSource(tags={"source": cell["data"]["source"], "digest": cell["data"]["digest"]})
    for split, context in (("train", "training"), ("valid", "validation")):
        name = f"{cell['data']['source']}-{split}"
        mlflow.log_input(MetaDataset(source, name=name, digest=cell["data"]["digest"][:36]), context)


def log_net(net: Any, image: NDArray[np.uint8]) -> None:
    """Log the kept model to the active run: signature, one image [1, h, w, 3] as example, pinned requirements.

    Its summary takes the place of the one that autologging wrote, which lacks a frozen base.
    """
    summary: list[str] = []
    net.summary(print_fn=lambda line, **_: summary.append(line))
    mlflow.log_text("\n".join(summary), "model_summary.txt")
    example = np.round(image.astype(np.float32) / 255, 3)
    shape = [-1, *example.shape[1:]]
    # Unnamed: MLflow would pass a named tensor as a dict, and Keras would warn of it at each prediction.
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), shape)]), Schema([TensorSpec(np.dtype(np.float32), [-1, 1])])
    )
    with engine.native_chatter_held_back(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The structure of `inputs`")  # MLflow tries the example as a list of one
        # The tensorflow flavour: the keras one of mlflow 3.17 fails on any input example.
        mlflow.tensorflow.log_model(
            net,
            name="model",
            signature=signature,
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "tensorflow", "keras", "numpy")],
        )


def find_run(cell: dict[str, Any]) -> str | None:
    """The id of the cell's newest run that was not broken off, or None."""
    experiment = connect(cell)
    found = mlflow.MlflowClient().search_runs(
        [experiment],
        f"tags.cell = '{cell['cell']}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def rebuild(cell: dict[str, Any], history: pd.DataFrame, net: Any, image: NDArray[np.uint8]) -> str:
    """A run made from the cell's outputs, for a store that has none: a restored cell, a store that was deleted."""
    experiment = connect(cell)
    with mlflow.start_run(
        experiment_id=experiment, run_name=labels.run_name(cell), tags={**labels.tags(cell), "rebuilt": "true"}
    ) as run:
        _describe_run(cell)
        _log_epochs(run.info.run_id, history.to_dict("records"))
        log_net(net, image)
    return str(run.info.run_id)


def log_evaluation(run_id: str, metrics: dict[str, Any], figures: Path) -> None:
    """Add a cell's metrics (numbers; a flag becomes a tag) and figures to its finished run.

    The four of Keras are the run's curves: their values for the kept weights are named `kept_...`.
    """
    client, now = mlflow.MlflowClient(), round(1000 * time.time())
    numbers = [
        Metric(f"kept_{key}" if key in METRICS else key, value, now, 0)
        for key, value in metrics.items()
        if not isinstance(value, bool)
    ]
    flags = [RunTag(key, str(value).lower()) for key, value in metrics.items() if isinstance(value, bool)]
    client.log_batch(run_id, metrics=numbers, tags=flags)
    client.log_artifacts(run_id, str(figures), "figures")


def register(run_id: str, cell: dict[str, Any], metrics: dict[str, Any]) -> str | None:
    """The registered version of the run's model, made if there is none; None when the run holds no model."""
    client, name = mlflow.MlflowClient(), labels.experiment_name(cell)
    outputs = client.get_run(run_id).outputs
    if not outputs or not outputs.model_outputs:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            client.create_registered_model(name, description="One version for each trained cell. " + ABOUT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        existing = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        tags = {
            **{key: value for key, value in labels.tags(cell).items() if not key.startswith("mlflow.")},
            "val_binary_accuracy": f"{metrics['val_binary_accuracy']:.4f}",
            "generalization_gap": f"{metrics['generalization_gap']:+.4f}",
        }
        if existing:
            return str(existing[0].version)
        model_id = outputs.model_outputs[0].model_id
        made = client.create_model_version(
            name,
            f"models:/{model_id}",
            run_id,
            tags=tags,
            model_id=model_id,
            description=f"{labels.run_name(cell)}: accuracy {metrics['val_binary_accuracy']:.4f} on valid "
            f"({cell['data']['source']} images), {100 * metrics['generalization_gap']:+.1f} points more on train.",
        )
    return str(made.version)
