"""The MLflow run of a comparison: it holds the report and the figures."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import cell_name
from car_or_truck.cells.names import COMPARISON
from car_or_truck.compare import figures, report
from car_or_truck.compare.comparison import Comparison
from car_or_truck.tracking import delivery, runs, store


def log_comparison(comparison: Comparison) -> bool:
    """Add a run named `comparison` with report and figures, unless the store has it; returns whether it was added.

    It has no tag `cell`: it is not a training.
    """
    if runs.find_comparison(comparison.summary):
        return False
    best, cell = comparison.table.iloc[0], comparison.results[0].cell
    experiment = store.connect(names.experiment_name(cell.stand_in))
    tags = {
        COMPARISON: names.comparison_digest(comparison.summary),
        store.PROCESS: store.this_process(),
        "data.source": cell.data.source,
        "data.digest": cell.data.digest,
        **names.surroundings(),
        "best": cell_name(best["variant"], best["seed"]),
        "mlflow.note.content": "\n\n".join(comparison.summary["verdict"]),
    }
    with (
        mlflow.start_run(experiment_id=experiment, run_name=COMPARISON, tags=tags) as run,
        TemporaryDirectory() as folder,
    ):
        mlflow.log_metric("compared_cells", len(comparison.results))
        mlflow.log_metric("highest_val_binary_accuracy", float(best["val_binary_accuracy"]))
        mlflow.log_metric("highest_corrected_for_selection", comparison.summary["selection"]["corrected"])
        for name in ("report.html", "comparison.csv", "comparison.json"):
            mlflow.log_artifact(str(paths.REPORTS / name))
        figures.curves(comparison.curves, Path(folder) / "curves.png")
        report.draw(comparison, Path(folder), ".png")
        mlflow.log_artifacts(folder)
    delivery.hand_over(run.info.run_id)
    return True
