"""What a run keeps so that its model can be traced back: its source, its data and its answers, in the folder trace/."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML

from car_or_truck import paths
from car_or_truck.cells import names as labels
from car_or_truck.params import FILE

FOLDER = "trace"
CELL, PARAMS, CHANGES = "cell.json", "params.yaml", "changes.patch"
METRICS, PREDICTIONS, OUTPUTS = "metrics.json", "predictions.csv", "outputs.json"


def log_source(cell: dict[str, Any]) -> None:
    """Into the active run, as its training begins: the cell, params.yaml, and what git has not recorded yet."""
    mlflow.log_text(json.dumps(cell, indent=2), f"{FOLDER}/{CELL}")
    if FILE.is_file():
        mlflow.log_artifact(str(FILE), FOLDER)
    # dvc.lock and the reports are results, which every run changes
    changes = labels.git("diff", "HEAD", "--binary", "--", ".", ":!dvc.lock", ":!reports", strip=False)
    if changes:
        mlflow.log_text(changes, f"{FOLDER}/{CHANGES}")


def log_results(run_id: str, cell: dict[str, Any]) -> None:
    """Into a finished run: the metrics and answers of its evaluation, and what DVC knows its outputs by."""
    client = mlflow.MlflowClient()
    report = paths.report_folder(cell["variant"], cell["seed"])
    for name in (METRICS, PREDICTIONS):
        client.log_artifact(run_id, str(report / name), FOLDER)
    client.log_text(run_id, json.dumps(dvc_outputs(labels.run_name(cell)), indent=2), f"{FOLDER}/{OUTPUTS}")


def dvc_outputs(cell_name: str, lock: Path = Path("dvc.lock")) -> dict[str, Any]:
    """The stages of dvc.lock that a cell's model comes from, as they stand there; as far as there are any."""
    try:
        stages = YAML(typ="safe").load(lock)["stages"]
    except (OSError, KeyError, TypeError):
        return {}
    return {stage: stages[stage] for stage in ("fetch", "prepare", f"train@{cell_name}") if stage in stages}


def read(run_id: str, folder: Path) -> Path:
    """Download a run's trace into `folder`; returns the folder that holds its files, which may be empty."""
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=str(folder)))
    except (MlflowException, OSError):
        return folder / FOLDER


def evaluated(run_id: str) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame] | None:
    """A run's cell, metrics and predictions (name, label, probability); None when it does not have them."""
    with TemporaryDirectory() as folder:
        there = read(run_id, Path(folder))
        try:
            cell, metrics = (json.loads((there / name).read_text(encoding="utf-8")) for name in (CELL, METRICS))
            return cell, metrics, pd.read_csv(there / PREDICTIONS)
        except (OSError, ValueError):
            return None
