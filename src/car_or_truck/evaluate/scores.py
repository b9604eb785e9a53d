"""How good a net's answers to a split are: the field's standard scores, from labels and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from car_or_truck.compare import statistics

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]
TINY = 1e-7  # Keras clips probabilities to this before it takes their logarithm


def log_loss(labels: Labels, probability: Floats) -> float:
    """Mean binary cross-entropy in nats, as Keras computes it; labels and probabilities of label 1 are [images]."""
    clipped = probability.astype(np.float32).clip(TINY, 1 - np.float32(TINY)).astype(np.float64)
    return float(-np.log(np.where(labels == 1, clipped, 1 - clipped)).mean())


def accuracy(labels: Labels, probability: Floats, threshold: float = 0.5) -> float:
    """Share of right answers; label 1 is the answer above the threshold, as Keras's binary_accuracy has it."""
    return float(((probability > threshold) == (labels == 1)).mean())


def at_threshold(labels: Labels, probability: Floats, threshold: float = 0.5) -> dict[str, float]:
    """The scores of yes-or-no answers, label 1 positive. Precision is 0 where that answer is never given."""
    said = (probability > threshold).astype(np.uint8)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, said, average="binary", pos_label=1, zero_division=0.0
    )
    recalls = metrics.recall_score(labels, said, labels=np.unique(labels), average=None, zero_division=0.0)
    return {
        "binary_accuracy": accuracy(labels, probability, threshold),
        "balanced_accuracy": float(np.mean(recalls)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def of_probabilities(labels: Labels, probability: Floats) -> dict[str, float]:
    """The scores that need no threshold. Ranking needs both classes: its two are left out where one is missing."""
    found = {
        "brier_score": float(np.mean((probability.astype(np.float64) - labels) ** 2)),
        "expected_calibration_error": statistics.expected_calibration_error(labels, probability),
    }
    if 0 < labels.mean() < 1:
        found["roc_auc"] = float(metrics.roc_auc_score(labels, probability))
        found["average_precision"] = float(metrics.average_precision_score(labels, probability))
    return found
