"""The finished run of a trained model in the project's own store.

Quick to import, unlike training.py, which brings TensorFlow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, RunTag

from car_or_truck import files
from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell
from car_or_truck.tracking import store
from car_or_truck.train.history import METRICS

RELIABILITY = "reliability.npz"  # a file of `evaluate`, and the tag of a logged model that holds its SHA-256


def find_run(cell: Cell) -> str | None:
    """The id of the cell's newest finished run, or None."""
    experiment = store.connect(names.experiment_name(cell.stand_in))
    runs = mlflow.MlflowClient().search_runs(
        [experiment],
        f"tags.cell = '{cell.fingerprint}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(runs[0].info.run_id) if runs else None


def find_comparison(summary: dict[str, Any]) -> str | None:
    """The id of the finished run of a comparison, by what comparison.json holds, or None."""
    experiment = store.connect(names.experiment_name(summary["data"]["stand_in"]))
    known = f"tags.{names.COMPARISON} = '{names.comparison_digest(summary)}' and attributes.status = 'FINISHED'"
    runs = mlflow.MlflowClient().search_runs([experiment], known, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def log_evaluation(run_id: str, scores: Mapping[str, Any], figures: Path) -> None:
    """Add a model's scores (a flag or a word becomes a tag) and figures to its finished run.

    Keras's four metrics are the run's curves, so what they are for the saved weights is named `kept_...`.
    """
    client, now = mlflow.MlflowClient(), round(1000 * time.time())
    metrics = [
        Metric(f"kept_{key}" if key in METRICS else key, value, now, 0)
        for key, value in scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    tags = [
        RunTag(key, str(value).lower())
        for key, value in scores.items()
        if isinstance(value, bool | str) and key != "cell"
    ]
    client.log_batch(run_id, metrics=metrics, tags=tags)
    if figures.is_dir():
        client.log_artifacts(run_id, str(figures), "figures")


def add_reliability(run_id: str, path: Path) -> None:
    """Put the file that `evaluate` wrote into the run's logged model, which is as old as the training."""
    client = mlflow.MlflowClient()
    model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
    client.log_model_artifact(model_id, str(path), "data")
    client.set_logged_model_tags(model_id, {RELIABILITY: files.sha256(path)})
