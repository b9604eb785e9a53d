"""What a model must show before it becomes the champion: a pure decision from numbers.

`labels` and probabilities (of label 1) are of the same images in the same order, [images].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from car_or_truck.compare import statistics
from car_or_truck.params import Promotion

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What one model says of the images, and how much better it was on those that it was trained on."""

    probability: Floats
    gap: float  # generalization_gap: accuracy on train minus that on valid, last epoch


@dataclass(frozen=True)
class Gate:
    """One number, what it must be, and whether it is."""

    name: str
    value: float | None  # None: there was nothing to measure
    must_be: str  # ">=", "<=", "<" or ">"
    limit: float
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the number is as it must be; a number that is none fails."""
        if self.value is None:
            return True
        return {
            ">=": self.value >= self.limit,
            "<=": self.value <= self.limit,
            "<": self.value < self.limit,
            ">": self.value > self.limit,
        }[self.must_be]

    @property
    def short_by(self) -> float:
        """How far the number is from its limit, where it fails."""
        return 0.0 if self.value is None or self.holds else abs(self.value - self.limit)


def accuracy(labels: NDArray[np.uint8], probability: Floats) -> float:
    """The share of right answers, at the threshold 0.5."""
    return float(_right(labels, probability).mean())


def judge(
    labels: NDArray[np.uint8], challenger: Answers, champion: Answers | None, limits: Promotion
) -> tuple[Gate, ...]:
    """All the gates that numbers decide; `champion` is None where there is none."""
    right = _right(labels, challenger.probability)
    low, high = statistics.wilson(int(right.sum()), len(right))
    positive = float((labels == 1).mean())
    said_positive = float((challenger.probability > 0.5).mean())
    error = statistics.expected_calibration_error(labels, challenger.probability)
    return (
        Gate(
            "accuracy",
            float(right.mean()),
            ">=",
            limits.min_accuracy,
            f"95 % {low:.3f} to {high:.3f} on {len(right)} images",
        ),
        Gate("accuracy, lower end", low, ">", max(positive, 1 - positive), "of 95 %; limit: the best constant answer"),
        Gate(
            "most frequent answer", max(said_positive, 1 - said_positive), "<", 1.0, "share of the images; 1: collapsed"
        ),
        Gate(
            "generalization gap",
            challenger.gap,
            "<=",
            limits.max_gap,
            f"points by which train is better: {100 * challenger.gap:.1f}",
        ),
        _against(right, labels, champion, limits),
        _calibration(error, labels, champion, limits),
    )


def _against(right: NDArray[np.bool_], labels: NDArray[np.uint8], champion: Answers | None, limits: Promotion) -> Gate:
    name = "accuracy minus champion's, lower end"
    if champion is None:
        return Gate(name, None, ">=", -limits.margin, "no champion yet")
    theirs = _right(labels, champion.probability)
    found = statistics.paired_difference(right, theirs)
    note = f"{100 * found.difference:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return Gate(name, found.low, ">=", -limits.margin, f"{note}; champion: {theirs.mean():.4f}")


def _calibration(error: float, labels: NDArray[np.uint8], champion: Answers | None, limits: Promotion) -> Gate:
    name = "calibration error minus champion's"
    if champion is None:
        return Gate(name, None, "<=", limits.max_calibration_worsening, f"{error:.3f}; no champion yet")
    theirs = statistics.expected_calibration_error(labels, champion.probability)
    return Gate(name, error - theirs, "<=", limits.max_calibration_worsening, f"{error:.3f} against {theirs:.3f}")


def same_answers(evaluated: Floats, now: Floats, limits: Promotion) -> Gate:
    """The registered model gives the answers that were evaluated."""
    return Gate(
        "largest change of an answer",
        float(np.abs(evaluated - now).max()),
        "<=",
        limits.tolerance,
        "of the registered model, on all images",
    )


def all_hold(gates: tuple[Gate, ...]) -> bool:
    """Whether none fails."""
    return all(gate.holds for gate in gates)


def failures(gates: tuple[Gate, ...]) -> str:
    """Which fail, and by how much, in one line."""
    return "; ".join(
        f"{gate.name} is {gate.value:.4f}, must be {gate.must_be} {gate.limit:.4f} (short by {gate.short_by:.4f})"
        for gate in gates
        if not gate.holds and gate.value is not None
    )


def _right(labels: NDArray[np.uint8], probability: Floats) -> NDArray[np.bool_]:
    return np.asarray((probability > 0.5) == (labels == 1))
