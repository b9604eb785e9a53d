"""The MLflow run of a comparison: it holds the report and the figures."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import cell_name
from car_or_truck.compare import report
from car_or_truck.compare.comparison import Comparison
from car_or_truck.tracking import datasets, delivery, processes, runs, store, views

GREY = "#999999"  # no variant's colour
REPORT = "The whole report is the artifact report.html."


def log_comparison(comparison: Comparison) -> bool:
    """Show a comparison, and add its run unless the store has it; returns whether it was added."""
    added = runs.find_comparison(comparison.summary) is None
    if added:
        _add_run(comparison)
    views.publish(comparison)
    return added


def _add_run(comparison: Comparison) -> None:
    """A run named `comparison` with report and figures; it has no tag `cell`: it is not a training."""
    best, cell = comparison.table.iloc[0], comparison.results[0].cell
    experiment = store.connect(names.experiment_name(cell.stand_in))
    warning = ["**Synthetic images, not photographs.**"] if cell.stand_in else []
    about = [*warning, *comparison.summary["verdict"], *comparison.summary["overfitting"], REPORT]
    tags = {
        names.COMPARISON: names.comparison_digest(comparison.summary),
        processes.TAG: processes.this_process(),
        "data.source": cell.data.source,
        "data.digest": cell.data.digest,
        **names.surroundings(),
        "best": cell_name(best["variant"], best["seed"]),
        MLFLOW_RUN_NOTE: "\n\n".join(about),
        views.COLOUR: GREY,
    }
    with (
        mlflow.start_run(experiment_id=experiment, run_name=names.COMPARISON, tags=tags) as run,
        TemporaryDirectory() as folder,
    ):
        mlflow.log_input(datasets.Split(cell.data, "valid"), "validation")
        mlflow.log_metric("compared_cells", len(comparison.results))
        mlflow.log_metric("highest_val_binary_accuracy", float(best["val_binary_accuracy"]))
        mlflow.log_metric("highest_corrected_for_selection", comparison.summary["selection"]["corrected"])
        for name in ("report.html", "comparison.csv", "comparison.json"):
            mlflow.log_artifact(str(paths.REPORTS / name))
        report.draw(comparison, Path(folder), ".png")
        mlflow.log_artifacts(folder)
    delivery.hand_over(run.info.run_id)
