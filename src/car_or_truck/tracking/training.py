"""The MLflow run of a training: written while it trains, or rebuilt from its outputs.

A run belongs to a cell by its tag `cell`, the fingerprint: outputs hold no run id, so an output that
DVC restores never points at a run that is gone. Everything is written to the project's own store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

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
from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell, TrainedCell
from car_or_truck.cells.times import Pace, read_pace
from car_or_truck.tracking import model, provenance, store
from car_or_truck.tracking.delivery import Courier
from car_or_truck.train import batches
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.history import METRICS


class _EpochsFromOne(MlflowCallback):  # type: ignore[misc]
    """MLflow's callback, which as it comes counts epochs from 0 and logs each validation twice."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch + 1, logs)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        pass


@contextmanager
def training_run(cell: Cell, saved: Checkpoint, tags: Mapping[str, str]) -> Iterator[list[Any]]:
    """A run for the cell's training, with Keras autologging; yields the callbacks that `fit` needs.

    A resumed training continues its own run, if the store still has it. The run ends as FAILED when
    the block raises, KILLED when the person interrupts it.
    """
    experiment, state = names.experiment_name(cell.stand_in), saved.state
    experiment_id = store.connect(experiment)
    process = {store.PROCESS: store.this_process()}
    if _is_active(state.run_id):
        run = mlflow.start_run(run_id=state.run_id)
        mlflow.set_tags(process)  # its commit stays that of its start, which its patch belongs to
    else:
        run = mlflow.start_run(
            experiment_id=experiment_id, run_name=cell.name, tags={**names.tags(cell), **tags, **process}
        )
        state.run_id = run.info.run_id
        saved.write()
    run_id, server, status = str(run.info.run_id), store.server(), "FAILED"
    courier = Courier(run_id, server) if server else None
    try:
        with _autologging(bool(state.epoch)) as callbacks:
            if courier:
                callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: courier.call()))
            _describe_run(run, cell)
            _log_epochs(run_id, state.rows, state.times)
            yield callbacks
        if state.seconds:
            _log_cost(Pace(state.seconds, state.cpu_seconds, state.images / state.seconds))
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.flush_async_logging()
        mlflow.end_run(status)
        print(f"MLflow run {cell.name} in experiment {experiment}: {status}", flush=True)
        if courier:
            courier.close()


@contextmanager
def _autologging(resumed: bool) -> Iterator[list[Any]]:
    """Keras autologging, on while the block runs; yields the callbacks to hand to `fit`."""
    if resumed:  # autologging would refuse: `initial_epoch` differs from the parameter that it logged before
        yield [_EpochsFromOne()]
        return
    with patch.object(mlflow.keras.autologging, "MlflowCallback", _EpochsFromOne):
        # Datasets: MLflow would read all images to hash them. Models: it would log the last weights, not those kept.
        mlflow.keras.autolog(log_datasets=False, log_models=False)
        try:
            yield []
        finally:
            mlflow.keras.autolog(disable=True)


def _is_active(run_id: str | None) -> bool:
    if run_id is None:
        return False
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def _log_epochs(run_id: str, rows: list[dict[str, float]], times: list[float]) -> None:
    """Log the epochs of a history that the run lacks, at their own times where these are known."""
    client, now = mlflow.MlflowClient(), time.time()
    points = []
    for name in METRICS:
        known = {point.step for point in client.get_metric_history(run_id, name)} if rows else set()
        points += [
            Metric(name, row[name], round(1000 * moment), int(row["epoch"]))
            for row, moment in zip(rows, times or [now] * len(rows), strict=True)
            if int(row["epoch"]) not in known
        ]
    client.log_batch(run_id, metrics=points)


def _log_cost(pace: Pace) -> None:
    """What the training cost, over all the processes that it took."""
    cost = {"training_seconds": pace.seconds, "training_cpu_seconds": pace.cpu_seconds}
    mlflow.log_metrics({**cost, "images_per_second": pace.images_per_second})


def _describe_run(run: Any, cell: Cell) -> None:
    """Into the active run: the recipe as parameters, the source, and the images as inputs."""
    mlflow.log_params(names.parameters(cell))
    if run.inputs and run.inputs.dataset_inputs:
        return
    provenance.log_source(cell, run.data.tags.get("git.commit"))
    source = CodeDatasetSource(tags={"source": cell.data.source, "digest": cell.data.digest})
    for split, context in (("train", "training"), ("valid", "validation")):
        dataset = MetaDataset(source, name=f"{cell.data.source}-{split}", digest=cell.data.digest[:36])
        mlflow.log_input(dataset, context)


def log_model(net: Any, image: NDArray[np.uint8], cell: TrainedCell) -> None:
    """Log the saved model to the active run; `image` [h, w, 3] is its input example.

    Its summary replaces the one that autologging wrote, which lacks a frozen base.
    """
    summary: list[str] = []
    net.summary(print_fn=lambda line, **_: summary.append(line))
    mlflow.log_text("\n".join(summary), "model_summary.txt")
    model.log(net, image, cell)


def rebuild(cell: TrainedCell, history: pd.DataFrame) -> str:
    """A run made from the cell's outputs, for a store that has none; returns its id.

    A cell that DVC restored has none, nor has a store that was deleted. It has the cost of a training that was here,
    but not the times of its epochs. TensorFlow must have been started.
    """
    net = keras.saving.load_model(cell.model_folder / "model.keras")
    image = batches.load(paths.PREPARED, "valid", cell.side).images[0]
    experiment_id = store.connect(names.experiment_name(cell.stand_in))
    tags = {**names.tags(cell), store.PROCESS: store.this_process(), "rebuilt": "true"}
    with mlflow.start_run(experiment_id=experiment_id, run_name=cell.name, tags=tags) as run:
        _describe_run(run, cell)
        _log_epochs(run.info.run_id, history.to_dict("records"), [])
        pace = read_pace(cell.fingerprint)
        if pace:
            _log_cost(pace)
        log_model(net, image, cell)
    return str(run.info.run_id)
