"""MLflow for a comparison: a run that holds its report, and what its cells' trainings cost.

Quick to import, unlike tracking, which brings TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow

from car_or_truck.cells import names as labels
from car_or_truck.tracking import delivery, runs, store


class Pace(NamedTuple):
    """Of a training, on the machine that trained it."""

    seconds: float  # of the clock
    images_per_second: float


def pace(cell: dict[str, Any]) -> Pace | None:
    """What the cell's run says of its training; None where the store has no run that was trained in it."""
    run_id = runs.find_run(cell)
    if run_id is None:
        return None
    found = mlflow.get_run(run_id).data.metrics
    if "training_seconds" not in found:
        return None  # rebuilt from the outputs, which hold no times
    return Pace(found["training_seconds"], found["images_per_second"])


def log(
    cell: dict[str, Any], digest: str, about: Mapping[str, str], metrics: Mapping[str, float], artifacts: Sequence[Path]
) -> bool:
    """A run named `comparison` in the experiment of `cell`, unless there is one with this `digest`; whether it is new.

    `about` becomes tags, beside `comparison`, the digest. It has no tag `cell`: it is no cell's run.
    """
    experiment = store.connect(labels.experiment_name(cell))
    wanted = f"tags.comparison = '{digest}' and attributes.status = 'FINISHED'"
    if mlflow.MlflowClient().search_runs([experiment], wanted, max_results=1):
        return False
    tags = {"comparison": digest, store.PROCESS: store.this_process(), **about}
    with mlflow.start_run(experiment_id=experiment, run_name="comparison", tags=tags) as run:
        mlflow.log_metrics(dict(metrics))
        for path in artifacts:
            mlflow.log_artifact(str(path))
    delivery.hand_over(run.info.run_id)
    return True
