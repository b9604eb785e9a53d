"""A cell's finished run in the project's own MLflow store: found, and completed with its evaluation.

Quick to import, unlike tracking, which brings TensorFlow.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, RunTag

from car_or_truck.cells import names as labels
from car_or_truck.tracking import store
from car_or_truck.train.history import METRICS


def find_run(cell: dict[str, Any]) -> str | None:
    """The id of the cell's newest run that was not broken off, or None."""
    experiment = store.connect(labels.experiment_name(cell))
    found = mlflow.MlflowClient().search_runs(
        [experiment],
        f"tags.cell = '{cell['cell']}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def log_evaluation(run_id: str, metrics: dict[str, Any], figures: Path) -> None:
    """Add a cell's metrics (numbers; a flag or a word becomes a tag) and figures to its finished run.

    The four of Keras are the run's curves: their values for the kept weights are named `kept_...`.
    """
    client, now = mlflow.MlflowClient(), round(1000 * time.time())
    numbers = [
        Metric(f"kept_{key}" if key in METRICS else key, value, now, 0)
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    flags = [RunTag(key, str(value).lower()) for key, value in metrics.items() if isinstance(value, bool | str)]
    client.log_batch(run_id, metrics=numbers, tags=flags)
    client.log_artifacts(run_id, str(figures), "figures")
