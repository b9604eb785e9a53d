"""MLflow: a cell's run and its model.

A run belongs to a cell by the tag `cell`, the cell's fingerprint: outputs hold no run id, so an
output that DVC restores never points at a run that is gone. All is written to the project's own store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import mlflow
import mlflow.keras
import mlflow.keras.autologging
import numpy as np
import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.keras.callback import MlflowCallback
from numpy.typing import NDArray

from car_or_truck import paths
from car_or_truck.cells import names as labels
from car_or_truck.tracking import model as flavour
from car_or_truck.tracking import provenance as trace
from car_or_truck.tracking import store
from car_or_truck.tracking.delivery import Courier
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.history import METRICS


class _EpochsFromOne(MlflowCallback):  # type: ignore[misc]
    """MLflow's own callback, with the epochs counted as in history.csv, and once.

    As it comes it counts them from 0, and logs each validation again, as `validation_*` at step 0.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch + 1, logs)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        pass


@contextmanager
def training(cell: dict[str, Any], saved: Checkpoint, about: dict[str, str]) -> Iterator[list[Any]]:
    """A run for the cell, with Keras autologging; yields the callbacks that `fit` needs.

    `about`: further tags. A training that is taken up again goes on in its own run, where the store
    still has it. The run ends as FAILED when the block raises, KILLED when the person interrupts it.
    """
    experiment, name, state = store.connect(labels.experiment_name(cell)), labels.run_name(cell), saved.state
    tags = {**labels.tags(cell), **about, store.PROCESS: store.this_process()}
    if _known(state.run_id):
        run = mlflow.start_run(run_id=state.run_id)
        mlflow.set_tags(tags)
    else:
        run = mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags)
        state.run_id = run.info.run_id
        saved.write()
    callbacks: list[Any] = []
    if state.epoch:
        # Autologging would refuse: `initial_epoch` differs from the parameter that it logged before.
        print(f"{name} goes on after epoch {state.epoch}.", flush=True)
        callbacks.append(_EpochsFromOne())
    else:
        mlflow.keras.autologging.MlflowCallback = _EpochsFromOne
        # Datasets: MLflow would read them whole to hash them. Models: it would log the last weights, not those kept.
        mlflow.keras.autolog(log_datasets=False, log_models=False)
    run_id, server = str(run.info.run_id), store.server()
    courier = Courier(run_id, server) if server else None
    if courier:
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: courier.call()))
    status = "FAILED"
    try:
        _describe_run(run, cell)
        _log_epochs(run_id, state.rows, state.times)
        yield callbacks
        _log_cost(saved)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.flush_async_logging()
        mlflow.end_run(status)
        mlflow.keras.autolog(disable=True)
        print(f"MLflow run {name} in experiment {labels.experiment_name(cell)}: {status}", flush=True)
        if courier:
            courier.close()


def _known(run_id: str | None) -> bool:
    if run_id is None:
        return False
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _log_epochs(run_id: str, rows: list[dict[str, float]], times: list[float]) -> None:
    """Log those epochs of a history that the run lacks, at their own times where these are known."""
    client, now = mlflow.MlflowClient(), time.time()
    points = []
    for name in METRICS:
        known = {point.step for point in client.get_metric_history(run_id, name)} if rows else set()
        points += [
            Metric(name, row[name], round(1000 * moment), int(row["epoch"]))
            for row, moment in zip(rows, times or [now] * len(rows), strict=True)
            if int(row["epoch"]) not in known
        ]
    for start in range(0, len(points), store.MOST_METRICS):
        client.log_batch(run_id, metrics=points[start : start + store.MOST_METRICS])


def _log_cost(saved: Checkpoint) -> None:
    """What the training cost, by the clock and by the processor, over all the processes that it took."""
    seconds, cpu_seconds, images = saved.state.seconds, saved.state.cpu_seconds, saved.state.images
    if seconds:
        cost = {"training_seconds": seconds, "training_cpu_seconds": cpu_seconds, "images_per_second": images / seconds}
        mlflow.log_metrics(cost)


def _describe_run(run: Any, cell: dict[str, Any]) -> None:
    """Into the active run: the recipe as parameters, the data as inputs."""
    mlflow.log_params(labels.parameters(cell))
    if run.inputs and run.inputs.dataset_inputs:
        return
    trace.log_source(cell)
    source = CodeDatasetSource(tags={"source": cell["data"]["source"], "digest": cell["data"]["digest"]})
    for split, context in (("train", "training"), ("valid", "validation")):
        name = f"{cell['data']['source']}-{split}"
        mlflow.log_input(MetaDataset(source, name=name, digest=cell["data"]["digest"][:36]), context)


def log_net(net: Any, image: NDArray[np.uint8], cell: dict[str, Any]) -> None:
    """Log the cell's kept model, as `train` has saved it, to the active run; `image` [1, h, w, 3] is its example.

    Its summary takes the place of the one that autologging wrote, which lacks a frozen base.
    """
    summary: list[str] = []
    net.summary(print_fn=lambda line, **_: summary.append(line))
    mlflow.log_text("\n".join(summary), "model_summary.txt")
    flavour.log(net, paths.model_folder(cell["variant"], cell["seed"]) / "model.keras", image[0], cell)


def rebuild(cell: dict[str, Any], history: pd.DataFrame, net: Any, image: NDArray[np.uint8]) -> str:
    """A run made from the cell's outputs, for a store that has none: a restored cell, a store that was deleted."""
    experiment = store.connect(labels.experiment_name(cell))
    tags = {**labels.tags(cell), store.PROCESS: store.this_process(), "rebuilt": "true"}
    with mlflow.start_run(experiment_id=experiment, run_name=labels.run_name(cell), tags=tags) as run:
        _describe_run(run, cell)
        _log_epochs(run.info.run_id, history.to_dict("records"), [])
        log_net(net, image, cell)
    return str(run.info.run_id)
