"""The registered models of a pipeline that has run, and gates for nets that have seen forty drawings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from rich.console import Console

from car_or_truck import params
from car_or_truck.cells.cell import read_dataset
from car_or_truck.cells.results import Result, read_results
from car_or_truck.registry import versions
from helpers.clones import Project
from helpers.stores import SYNTHETIC as NAME


def limits(**changes: float) -> params.Promotion:
    """Gates that a net trained on forty drawings can pass."""
    loose = {"min_accuracy": 0.0, "margin": 1.0, "max_gap": 1.0, "max_calibration_worsening": 1.0, **changes}
    return params.load().promotion.model_copy(update=loose)


def loose(**changes: float) -> params.Params:
    """params.yaml with those gates."""
    return params.load().model_copy(update={"promotion": limits(**changes)})


def console() -> Console:
    return Console(width=200)


def version(client: mlflow.MlflowClient, variant: str) -> versions.Version:
    """The one version of a variant."""
    (only,) = [item for item in versions.versions(client, NAME) if item.tags["variant"] == variant]
    return only


def results() -> list[Result]:
    """The compared models of the project that the test stands in."""
    return read_results(params.load(), read_dataset())[0]


def predicting(project: Project, variant: str, right: int) -> pd.DataFrame:
    """Make a model's evaluation say that so many of its 40 predictions are right."""
    path = project.root / f"reports/cells/{variant}/31415/predictions.csv"
    table = pd.read_csv(path)
    predicted = np.where(np.arange(len(table)) < right, table["label"], 1 - table["label"])
    table = table.assign(probability=0.2 + 0.6 * predicted)
    table.to_csv(path, index=False)
    return table


def rewrite_trace(client: mlflow.MlflowClient, run_id: str, name: str, text: str) -> None:
    """Put another text in the place of a file that a run keeps in its trace/."""
    client.log_text(run_id, text, f"trace/{name}")


def evaluate_elsewhere(client: mlflow.MlflowClient, run_id: str, scratch: Path) -> None:
    """Make a run say that its model was evaluated on other images, and predicted 0.5 for each of them."""
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="trace", dst_path=str(scratch)))
    cell: dict[str, Any] = json.loads((folder / "cell.json").read_text())
    cell["data"]["arrays"] = {"train": "0" * 64, "valid": "1" * 64}
    rewrite_trace(client, run_id, "cell.json", json.dumps(cell))
    table = pd.read_csv(folder / "predictions.csv").assign(probability=0.5)
    rewrite_trace(client, run_id, "predictions.csv", table.to_csv(index=False))
