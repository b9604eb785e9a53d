"""Stage `compare`: every model of params.yaml side by side, from what `train` and `evaluate` wrote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from car_or_truck import files, paths
from car_or_truck.cells.cell import Dataset
from car_or_truck.cells.results import Missing, Result
from car_or_truck.compare import dvc_plots, report, suspects
from car_or_truck.compare.comparison import Comparison


def compare(results: Sequence[Result], missing: Sequence[Missing], dataset: Dataset) -> Comparison:
    """Write reports/: comparison.csv, comparison.json, metrics.json, curves.csv, suspects, plots/ and report.html."""
    comparison = Comparison.from_results(results, missing, dataset)
    files.write_csv(paths.REPORTS / "comparison.csv", comparison.table)
    files.write_json(paths.REPORTS / "comparison.json", comparison.summary)
    files.write_csv(paths.REPORTS / "curves.csv", comparison.curves)
    files.write_json(paths.REPORTS / "metrics.json", dvc_plots.metrics(comparison.table))
    with files.whole_folder(paths.REPORTS / "plots") as part:
        for name, table in dvc_plots.tables(comparison, dataset).items():
            files.write_csv(part / f"{name}.csv", table)
    files.write_csv(paths.REPORTS / "suspects.csv", comparison.suspects)
    images = np.load(paths.PREPARED / "valid" / "images.npy", mmap_mode="r")
    with files.whole_file(paths.REPORTS / "suspects.png") as file:
        suspects.draw(comparison.suspects, images, dataset.classes[1], file)
    files.write_text(paths.REPORTS / "report.html", report.render(comparison, dataset))
    return comparison
