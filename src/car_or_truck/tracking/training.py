"""The MLflow run of a training: written while it trains, or rebuilt from its outputs.

A run belongs to a cell by its tag `cell`, the fingerprint: outputs hold no run id, so an output that
DVC restores never points at a run that is gone. Everything is written to the project's own store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.keras.callback import MlflowCallback
from numpy.typing import NDArray

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell, TrainedCell
from car_or_truck.cells.times import read_pace
from car_or_truck.evaluate import inspection
from car_or_truck.tracking import datasets, model, processes, provenance, runs, store
from car_or_truck.tracking.delivery import Courier, close_copy
from car_or_truck.train import batches
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.scaling import resized

COST = "training_seconds"  # over all the processes that a training took


class _Curves(MlflowCallback):  # type: ignore[misc]
    """What Keras autologging logs while a model trains, without what is wrong or logged better elsewhere."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """No parameters: the optimizer's, such as a schedule as a dictionary, contradict those of the recipe."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Count epochs from 1, and write each at once: MLflow's queue takes up to three seconds to end."""
        mlflow.log_metrics(logs, step=epoch + 1, synchronous=True)

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Nothing: each validation is part of its epoch."""


@contextmanager
def training_run(cell: Cell, saved: Checkpoint, tags: Mapping[str, str]) -> Iterator[list[Any]]:
    """A run for the cell's training; yields the callbacks that `fit` needs.

    A resumed training continues its own run, unless the store has lost it. The run ends as FAILED when
    the block raises, KILLED when the person interrupts it.
    """
    experiment, state, server = names.experiment_name(cell.stand_in), saved.state, store.server()
    experiment_id = store.connect(experiment)
    process = processes.this_process()
    if runs.can_continue(state.run_id):
        # First: a running one whose process is gone would be marked KILLED. Its commit stays that of its start, which
        # its patch belongs to.
        mlflow.MlflowClient().set_tag(state.run_id, processes.TAG, process)
        run = mlflow.start_run(run_id=state.run_id)
    else:
        tags = {**names.tags(cell), **tags, processes.TAG: process}
        run = mlflow.start_run(experiment_id=experiment_id, run_name=cell.name, tags=tags)
    run_id, status = str(run.info.run_id), "FAILED"
    courier: Courier | None = None
    try:
        if state.run_id != run_id:
            if state.run_id and server:  # of a worker elsewhere, whose checkpoint this is
                close_copy(state.run_id, experiment, server)
            state.run_id = run_id
            saved.write()
        callbacks: list[Any] = [_Curves()]
        if server:
            courier = Courier(run_id, server)
            callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: courier.call()))
        _describe_run(run, cell)
        runs.log_epochs(run_id, state.rows, state.times)
        yield callbacks
        runs.log_epochs(run_id, state.rows, state.times)  # those that could not be written: MLflow only says so
        if state.seconds:
            mlflow.log_metric(COST, state.seconds)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)
        print(f"MLflow run {cell.name} in experiment {experiment}: {status}", flush=True)
        if courier:
            courier.close()


def _describe_run(run: Any, cell: Cell) -> None:
    """Into the active run: the recipe as parameters, the source, and the images as inputs."""
    mlflow.log_params(names.parameters(cell))
    if run.inputs and run.inputs.dataset_inputs:
        return
    provenance.log_source(cell, run.data.tags.get("git.commit"))
    for split, context in (("train", "training"), ("valid", "validation")):
        mlflow.log_input(datasets.Split(cell.data, split), context)


def log_model(net: Any, image: NDArray[np.uint8], cell: TrainedCell) -> None:
    """Log the saved model and its summary to the active run; `image` [h, w, 3] is its input example."""
    mlflow.log_text(inspection.summary(net), "model_summary.txt")
    model.log(net, image, cell)


def rebuild(cell: TrainedCell, history: pd.DataFrame) -> str:
    """A run made from the cell's outputs, for a store that has none; returns its id.

    A cell that DVC restored has none, nor has a store that was deleted. It has the cost of a training that was here,
    but not the times of its epochs. TensorFlow must have been started.
    """
    net = inspection.load_net(cell.model_folder / "model.keras")
    image = resized(batches.load(paths.PREPARED, "valid").images[:1], cell.side)[0]
    experiment_id = store.connect(names.experiment_name(cell.stand_in))
    tags = {**names.tags(cell), processes.TAG: processes.this_process(), "rebuilt": "true"}
    with mlflow.start_run(experiment_id=experiment_id, run_name=cell.name, tags=tags) as run:
        _describe_run(run, cell)
        runs.log_epochs(run.info.run_id, history.to_dict("records"), [])
        pace = read_pace(cell.fingerprint)
        if pace:
            mlflow.log_metric(COST, pace.seconds)
        log_model(net, image, cell)
    return str(run.info.run_id)
