"""What a model must show before it becomes the champion: a pure decision from numbers."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from car_or_truck.cells.results import Evaluation
from car_or_truck.compare import statistics
from car_or_truck.evaluate.scores import expected_calibration_error, wilson
from car_or_truck.train.recipe import THRESHOLD

if TYPE_CHECKING:
    from car_or_truck.params import Promotion

Floats = NDArray[np.float64]
POINTS = "points"
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Gate:
    """A number, the limit that it must meet, and whether it does."""

    name: str
    value: float | None  # None: there is nothing to measure yet, and the gate is open
    must_be: str  # a key of OPERATORS
    limit: float
    note: str = ""
    unit: str = "%"  # or points, of a difference

    @property
    def passes(self) -> bool:
        """Whether the number meets its limit; NaN does not."""
        return self.value is None or OPERATORS[self.must_be](self.value, self.limit)

    @property
    def short_by(self) -> float:
        """How far a failing number is from its limit."""
        return 0.0 if self.value is None or self.passes else abs(self.value - self.limit)

    def amount(self, value: float) -> str:
        """One of the gate's numbers for people; a count as it is."""
        if np.isnan(value):
            return "unknown"
        if isinstance(self.limit, int):
            return f"{value}"
        return f"{100 * value:z.1f}%" if self.unit == "%" else f"{100 * round(value, 6) + 0.0:.3g} points"

    @property
    def shortfall(self) -> str:
        """How far a failing number is from its limit, for people: between two shares, that is points."""
        return replace(self, unit=POINTS).amount(self.short_by)

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """A row for people: name, value, what it must be, verdict, note."""
        value = verdict = ""
        if self.value is not None:
            value = self.amount(self.value)
            verdict = "PASS" if self.passes else "FAIL" + f" by {self.shortfall}" * (self.short_by > 0)
        return self.name, value, f"{self.must_be} {self.amount(self.limit)}", verdict, self.note


@dataclass(frozen=True)
class Decision:
    """All gates together."""

    gates: tuple[Gate, ...]

    @property
    def passes(self) -> bool:
        """Whether every gate does."""
        return all(gate.passes for gate in self.gates)

    @property
    def failures(self) -> str:
        """Which gates fail, and by how much, in one line."""
        rows = [(*gate.row[:3], gate) for gate in self.gates if not gate.passes]
        return "; ".join(
            f"{name} is {value}, must be {limit}" + f" (short by {gate.shortfall})" * (gate.short_by > 0)
            for name, value, limit, gate in rows
        )

    @property
    def markdown(self) -> str:
        """All gates as a table in Markdown."""
        rows = ["| gate | value | must be | verdict | |", "|---|---:|---|---|---|"]
        return "\n".join([*rows, *(f"| {' | '.join(gate.row)} |" for gate in self.gates)])

    @property
    def record(self) -> str:
        """All gates as JSON."""
        return json.dumps([{**asdict(gate), "passes": gate.passes} for gate in self.gates])

    @classmethod
    def read(cls, record: str) -> Self:
        """The decision that was recorded as JSON; without a record, one without gates."""
        names = [field.name for field in fields(Gate)]
        return cls(
            tuple(Gate(**{name: gate[name] for name in names if name in gate}) for gate in json.loads(record or "[]"))
        )


def judge(challenger: Evaluation, champion: Evaluation | None, limits: Promotion) -> Decision:
    """The gates that numbers decide; `champion`, if there is one, is evaluated on the same images."""
    labels, right = challenger.labels, challenger.correct
    low, high = wilson(int(right.sum()), len(right))
    positive, predicted = float((labels == 1).mean()), float((challenger.probability > THRESHOLD).mean())
    gap = challenger.scores["generalization_gap"]
    interval = f"95% CI {100 * low:.1f} to {100 * high:.1f} on {len(right)} images"
    return Decision(
        (
            Gate("accuracy", float(right.mean()), ">=", limits.min_accuracy, interval),
            Gate(
                "accuracy, lower end", low, ">", max(positive, 1 - positive), "of its 95% CI; limit: a constant answer"
            ),
            Gate("share of the most frequent prediction", max(predicted, 1 - predicted), "<", 1.0, "1: collapsed"),
            Gate("generalization gap", gap, "<=", limits.max_gap, "accuracy on train minus validation", POINTS),
            _accuracy_against(challenger, champion, limits),
            _calibration_against(challenger, champion, limits),
            *_slices(challenger, limits),
        )
    )


def _accuracy_against(challenger: Evaluation, champion: Evaluation | None, limits: Promotion) -> Gate:
    name = "accuracy minus champion's, lower end"
    if champion is None:
        return Gate(name, None, ">=", -limits.margin, "no champion yet", POINTS)
    pair = statistics.paired_difference(challenger.correct, champion.correct)
    note = f"{100 * pair.difference:+z.1f} points ({100 * pair.low:+z.1f} to {100 * pair.high:+z.1f})"
    return Gate(name, pair.low, ">=", -limits.margin, f"{note}; champion: {champion.correct.mean():.1%}", POINTS)


def _calibration_against(challenger: Evaluation, champion: Evaluation | None, limits: Promotion) -> Gate:
    name, limit = "calibration error minus champion's", limits.max_calibration_worsening
    error = expected_calibration_error(challenger.labels, challenger.probability)
    if champion is None:
        return Gate(name, None, "<=", limit, f"{error:.1%}; no champion yet", POINTS)
    theirs = expected_calibration_error(champion.labels, champion.probability)
    return Gate(name, error - theirs, "<=", limit, f"{error:.1%}; champion: {theirs:.1%}", POINTS)


def _slices(challenger: Evaluation, limits: Promotion) -> tuple[Gate, ...]:
    """Without a limit there is no such gate."""
    if limits.max_slice_drop is None:
        return ()
    drop = challenger.scores.get("largest_slice_drop", np.nan)
    note = "not measured: evaluate.slices is false" if np.isnan(drop) else "of the drops that are significant"
    return (Gate("largest drop on a slice", drop, "<=", limits.max_slice_drop, note, POINTS),)


def same_predictions(evaluated: Floats, served: Floats, limits: Promotion) -> Gate:
    """The registered model predicts what was evaluated, on all images."""
    largest = float(np.abs(evaluated - served).max())
    return Gate("largest change of a prediction", largest, "<=", limits.tolerance, "of the registered model", POINTS)
