"""How good predictions are: the field's standard scores, as pure functions of labels and probabilities.

`labels` are 0 or 1 and `probability` is that of label 1, both [images].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from sklearn import metrics

from car_or_truck.evaluate.reliability import CLIP, Floats
from car_or_truck.train.recipe import THRESHOLD

Labels = NDArray[np.uint8]
LEVEL = 0.95  # of confidence intervals
ALPHA = 0.05  # for p-values, after Holm's correction where there are several
BINS = 10  # of a reliability diagram, and of the calibration error


def all_scores(labels: Labels, probability: Floats) -> dict[str, float]:
    """Every score below, by Keras's and scikit-learn's names; label 1 is positive."""
    predicted = (probability > THRESHOLD).astype(np.uint8)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, average="binary", zero_division=0.0
    )
    right = int((predicted == labels).sum())
    low, high = wilson(right, len(labels))
    return {
        "loss": log_loss(labels, probability),
        "binary_accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "brier_score": float(np.mean((probability.astype(np.float64) - labels) ** 2)),
        "expected_calibration_error": expected_calibration_error(labels, probability),
        "roc_auc": float(metrics.roc_auc_score(labels, probability)),
        "average_precision": float(metrics.average_precision_score(labels, probability)),
    }


def log_loss(labels: Labels, probability: Floats) -> float:
    """Mean binary cross-entropy in nats; a wrong answer costs at most 16.1, where Keras's val_loss has no limit."""
    clipped = probability.astype(np.float32).clip(CLIP, 1 - np.float32(CLIP)).astype(np.float64)
    return float(-np.log(np.where(labels == 1, clipped, 1 - clipped)).mean())


def accuracy(labels: Labels, probability: Floats) -> float:
    """Share of correct predictions."""
    return float(((probability > THRESHOLD) == (labels == 1)).mean())


def has_collapsed(probability: Floats) -> bool:
    """Whether the prediction is the same for every image."""
    return len(np.unique(probability > THRESHOLD)) == 1


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95% CI (low, high) of a share, `right` of `total`. Wilson (1927), JASA 22.

    It reflects the number of images, not seed variance.
    """
    interval = binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class McNemar:
    """How many images only the first or only the second model predicts correctly, and the two-sided p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar_exact(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """The exact McNemar test of two models on the same images, [images] each.

    If both are equally good, the images that just one predicts correctly are tosses of a fair coin.
    p is 1 if there are none. McNemar (1947), Psychometrika 12.
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a, only_b, float(p))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values [tests] corrected for their number: below 0.05, the chance of any false positive is 5%.

    The smallest is multiplied by the number of tests, the next by one less, and none falls below
    one before it. Holm (1979), Scandinavian Journal of Statistics 6.
    """
    p: NDArray[np.float64] = np.asarray(p_values, float)
    order = p.argsort()
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)).clip(max=1)
    return corrected


def expected_calibration_error(labels: ArrayLike, probability: ArrayLike) -> float:
    """Mean distance, 0..1, between the predicted probability of label 1 and its frequency.

    Over bins of equal width, weighted by their images. Naeini et al. (2015), AAAI; the binary form.
    """
    truth, predicted = np.asarray(labels, float), np.asarray(probability, float)
    place = calibration_bins(predicted)
    gaps = np.bincount(place, truth, BINS) - np.bincount(place, predicted, BINS)  # a bin's mean gap times its images
    return float(np.abs(gaps).sum() / truth.size)


def calibration_bins(probability: Floats) -> NDArray[np.intp]:
    """The bin, from 0, that scikit-learn's reliability diagram puts each probability into."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)


def reliability_bins(labels: Labels, probability: Floats) -> pd.DataFrame:
    """A row for each bin with images: predicted (mean probability), observed (share of label 1), images."""
    table = pd.DataFrame({"predicted": probability, "observed": labels})
    by_bin = table.groupby(calibration_bins(probability))
    return by_bin.agg(predicted=("predicted", "mean"), observed=("observed", "mean"), images=("observed", "size"))


def smoothed_onset(val_loss: ArrayLike) -> int:
    """The epoch (from 1) after which the validation loss [epochs] rose for good, ignoring noise.

    It is where the running median over five epochs (fewer at both ends) is lowest; the middle one of
    several. A single outlier hardly moves a median.
    """
    medians = pd.Series(val_loss).rolling(5, center=True, min_periods=1).median().to_numpy()
    lowest = np.flatnonzero(medians == medians.min())
    return int(lowest[(lowest.size - 1) // 2]) + 1


def rise_text(rise: float) -> str:
    """A loss's rise to two decimals, or to its first significant digit where two would read 0.00."""
    if 0 < rise < 0.0001:
        return "less than 0.0001"
    return f"{rise:.2f}" if rise >= 0.005 or rise <= 0 else f"{rise:.1g}"
