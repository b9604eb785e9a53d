"""The tables that `dvc plots` draws, over all cells: ROC curves, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from car_or_truck.cells.results import Judged
from car_or_truck.compare.statistics import BINS

MOST = 200  # points of a curve: more would only make the page heavy


def roc(cells: Sequence[Judged]) -> pd.DataFrame:
    """cell, false_positive_rate, true_positive_rate; nothing of a cell whose valid images are all of one class."""
    tables = []
    for one in cells:
        labels, probability = one.predictions["label"], one.predictions["probability"]
        if labels.nunique() < 2:
            continue
        false_positive, true_positive, _ = roc_curve(labels, probability)
        chosen = np.unique(np.linspace(0, len(false_positive) - 1, min(MOST, len(false_positive))).round().astype(int))
        tables.append(
            pd.DataFrame(
                {
                    "cell": one.name,
                    "false_positive_rate": false_positive[chosen].round(6),
                    "true_positive_rate": true_positive[chosen].round(6),
                }
            )
        )
    empty = pd.DataFrame(columns=["cell", "false_positive_rate", "true_positive_rate"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def calibration(cells: Sequence[Judged]) -> pd.DataFrame:
    """cell, predicted (mean probability of a bin), observed (share of label 1 in it), images."""
    tables = []
    for one in cells:
        place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], one.predictions["probability"])
        bins = one.predictions.groupby(place).agg(
            predicted=("probability", "mean"), observed=("label", "mean"), images=("label", "size")
        )
        tables.append(bins.round(6).assign(cell=one.name)[["cell", "predicted", "observed", "images"]])
    return pd.concat(tables, ignore_index=True)


def confusion(cells: Sequence[Judged], classes: Sequence[str]) -> pd.DataFrame:
    """cell, actual, predicted (at 0.5), images, share of the actual class."""
    rows = []
    for one in cells:
        said = (one.predictions["probability"] > 0.5).astype(int)
        for actual in (0, 1):
            of_class = said[one.predictions["label"] == actual]
            for predicted in (0, 1):
                images = int((of_class == predicted).sum())
                share = round(images / max(1, len(of_class)), 6)
                rows.append((one.name, classes[actual], classes[predicted], images, share))
    return pd.DataFrame(rows, columns=["cell", "actual", "predicted", "images", "share"])
