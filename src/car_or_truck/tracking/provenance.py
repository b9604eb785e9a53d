"""What a run keeps so that its model can be traced back: source, data and predictions, in its folder trace/."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from car_or_truck import files
from car_or_truck.cells.cell import Cell
from car_or_truck.cells.results import Evaluation
from car_or_truck.git import changes
from car_or_truck.lock import locked_stages
from car_or_truck.params import FILE
from car_or_truck.tracking import faults

FOLDER = "trace"
CELL, PARAMS, CHANGES = "cell.json", "params.yaml", "changes.patch"
METRICS, SCORES, OUTPUTS = "metrics.json", "evaluation.json", "outputs.json"
EVALUATED = "evaluation.sha256"  # a run's tag, of METRICS
PREDICTIONS = {"valid": "predictions.csv", "test": "test_predictions.csv"}  # by split


def log_source(cell: Cell, commit: str | None) -> None:
    """Into the active run, as its training starts: the cell, params.yaml, and what differs from `commit`."""
    facts = cell.model_dump(mode="json", by_alias=True, include=set(Cell.model_fields))  # null is a value
    mlflow.log_text(json.dumps(facts, indent=2), f"{FOLDER}/{CELL}")
    if FILE.is_file():
        mlflow.log_artifact(str(FILE), FOLDER)
    patch = changes(commit) if commit else b""
    if patch:
        with TemporaryDirectory() as folder:
            path = Path(folder) / CHANGES
            path.write_bytes(patch)
            mlflow.log_artifact(str(path), FOLDER)


def log_results(run_id: str, cell: Cell) -> None:
    """Into a finished run: the scores and predictions of its evaluation, and DVC's hashes of its outputs."""
    client = mlflow.MlflowClient()
    for name in (METRICS, SCORES, *PREDICTIONS.values()):
        client.log_artifact(run_id, str(cell.report_folder / name), FOLDER)
    client.log_text(run_id, json.dumps(dvc_outputs(cell.name), indent=2), f"{FOLDER}/{OUTPUTS}")
    client.set_tag(run_id, EVALUATED, evaluation_digest(cell))


def evaluation_digest(cell: Cell) -> str:
    """Of the evaluation in reports/; a run has that of its own as the tag EVALUATED."""
    return files.sha256(cell.report_folder / METRICS)


def dvc_outputs(cell_name: str) -> dict[str, Any]:
    """The entries of dvc.lock for the stages that a model comes from, as far as there are any."""
    stages = locked_stages()
    return {stage: stages[stage] for stage in ("fetch", "prepare", f"train@{cell_name}") if stage in stages}


def download(run_id: str, folder: Path) -> Path:
    """Download a run's trace into `folder`; returns the folder of its files, which may be missing.

    Raises Failure when the store is out of order, of which a download says that there is no such file.
    """
    if not run_id:  # of a version that a person registered
        return folder / FOLDER
    try:
        place = f"{mlflow.get_run(run_id).info.artifact_uri}/{FOLDER}"
        if mlflow.artifacts.list_artifacts(artifact_uri=place):  # by the run's id it needs a server of MLflow 3
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=FOLDER, dst_path=str(folder))
    except (MlflowException, OSError) as error:
        if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
            raise faults.unusable(error, mlflow.get_tracking_uri()) from error
    return folder / FOLDER


def read_evaluations(run_id: str) -> tuple[Cell, dict[str, Evaluation]] | None:
    """A run's cell, and how it was evaluated: metrics.json's scores, with the predictions for each split.

    None when the run does not hold them.
    """
    with TemporaryDirectory() as scratch:
        folder = download(run_id, Path(scratch))
        try:
            cell = Cell.model_validate_json((folder / CELL).read_bytes())
            scores = json.loads((folder / METRICS).read_text(encoding="utf-8"))
            paths = {split: folder / name for split, name in PREDICTIONS.items()}
            tables = {split: pd.read_csv(path) for split, path in paths.items() if path.is_file()}
            return cell, {split: Evaluation(scores, table) for split, table in tables.items()}
        except (OSError, ValueError):
            return None
