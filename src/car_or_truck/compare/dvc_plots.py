"""What `dvc metrics` and `dvc plots` show, over all models, as tables; .dvc/plots holds charts and page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, roc_curve

from car_or_truck.cells.cell import Dataset
from car_or_truck.cells.results import Result
from car_or_truck.compare.comparison import Comparison
from car_or_truck.evaluate.scores import reliability_bins
from car_or_truck.train.recipe import THRESHOLD

MOST_POINTS = 200  # of a curve: more would only make the page heavy


def tables(comparison: Comparison, dataset: Dataset) -> dict[str, pd.DataFrame]:
    """The tables by name, the best model first, each with a column `colour`: that of its variant in the report."""
    results = sorted(comparison.results, key=lambda result: -result.correct.mean())
    frames = {
        "overfitting": accuracies(comparison.table).assign(source=dataset.source),
        "curves": comparison.curves,
        "roc": roc(results),
        "calibration": calibration(results),
        "confusion": confusion(results, dataset.classes),
    }
    by_variant = comparison.colours
    named = by_variant | {result.name: by_variant[result.variant] for result in results}
    return {
        name: table.assign(colour=table["cell" if "cell" in table else "variant"].map(named))
        for name, table in frames.items()
    }


def metrics(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For `dvc metrics` and `dvc exp`: accuracy on validation and generalization gap of each variant, the best first.

    The mean of its seeds; names are short, because DVC prints a column for each. `table` is comparison.csv.
    """
    means = accuracies(table).set_index("variant")
    short = pd.DataFrame({"acc": means["validation"], "gap": means["train"] - means["validation"]})
    return {str(variant): row for variant, row in short.round(4).to_dict("index").items()}


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """variant, train, validation: accuracies of the saved weights, the mean of its seeds, the best variant first."""
    compared = table[table["status"] == "compared"]
    names = {"train_binary_accuracy": "train", "val_binary_accuracy": "validation"}
    means = compared.groupby("variant", sort=False)[list(names)].mean().rename(columns=names)
    return means.sort_values("validation", ascending=False, kind="stable").round(6).reset_index()


def roc(results: Sequence[Result]) -> pd.DataFrame:
    """cell, false_positive_rate, true_positive_rate."""
    tables = []
    for result in results:
        false_positive, true_positive, _ = roc_curve(result.labels, result.probability)
        count = min(MOST_POINTS, len(false_positive))
        chosen = np.unique(np.linspace(0, len(false_positive) - 1, count).round().astype(int))
        rates = {"false_positive_rate": false_positive[chosen], "true_positive_rate": true_positive[chosen]}
        tables.append(pd.DataFrame(rates).round(6).assign(cell=result.name)[["cell", *rates]])
    return pd.concat(tables, ignore_index=True)


def calibration(results: Sequence[Result]) -> pd.DataFrame:
    """cell, predicted (mean probability in a bin), observed (share of label 1 in it), images."""
    tables = []
    for result in results:
        bins = reliability_bins(result.labels, result.probability)
        tables.append(bins.round(6).assign(cell=result.name)[["cell", *bins]])
    return pd.concat(tables, ignore_index=True)


def confusion(results: Sequence[Result], classes: Sequence[str]) -> pd.DataFrame:
    """cell, actual, predicted, images, share of the actual class."""
    rows = []
    for result in results:
        counts = confusion_matrix(result.labels, result.probability > THRESHOLD, labels=[0, 1])
        for (actual, predicted), images in np.ndenumerate(counts):
            share = round(images / counts[actual].sum(), 6)
            rows.append((result.name, classes[actual], classes[predicted], images, share))
    return pd.DataFrame(rows, columns=["cell", "actual", "predicted", "images", "share"])
