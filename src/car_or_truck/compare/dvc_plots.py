"""The tables that `dvc plots` draws, over all models: ROC curves, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, roc_curve

from car_or_truck.cells.results import Result
from car_or_truck.evaluate.scores import calibration_bins
from car_or_truck.train.recipe import THRESHOLD

MOST_POINTS = 200  # of a curve: more would only make the page heavy


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
        bins = result.predictions.groupby(calibration_bins(result.probability)).agg(
            predicted=("probability", "mean"), observed=("label", "mean"), images=("label", "size")
        )
        tables.append(bins.round(6).assign(cell=result.name)[["cell", "predicted", "observed", "images"]])
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
