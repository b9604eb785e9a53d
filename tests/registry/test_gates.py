from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from car_or_truck.params import Promotion
from car_or_truck.registry import gates
from car_or_truck.registry.gates import Answers, Gate

LIMITS = Promotion(min_accuracy=0.7, margin=0.02, max_gap=0.2, max_calibration_worsening=0.05, tolerance=0.01)
LABELS = np.array([0, 1] * 500, np.uint8)


def answers(accuracy: float, gap: float = 0.1, sure: float = 0.9) -> Answers:
    """Wrong on the first images, and right on the others."""
    wrong = np.arange(len(LABELS)) < round((1 - accuracy) * len(LABELS))
    said = np.where(wrong, 1 - LABELS, LABELS)
    return Answers(np.where(said == 1, sure, 1 - sure), gap)


def failing(challenger: Answers, champion: Answers | None = None, **limits: float) -> list[str]:
    verdict = gates.judge(LABELS, challenger, champion, LIMITS.model_copy(update=limits))
    return [gate.name for gate in verdict if not gate.holds]


def test_a_good_model_passes_with_and_without_a_champion() -> None:
    assert failing(answers(0.9)) == []
    assert failing(answers(0.9), answers(0.9)) == []


@pytest.mark.parametrize(
    ("challenger", "champion", "limits", "expected"),
    [
        (answers(0.65), None, {}, ["accuracy"]),
        (answers(0.52), None, {"min_accuracy": 0.0}, ["accuracy, lower end"]),
        (Answers(np.full(1000, 0.9), 0.0), None, {}, ["accuracy", "accuracy, lower end", "most frequent answer"]),
        (answers(0.9, gap=0.21), None, {}, ["generalization gap"]),
        (answers(0.87, sure=0.87), answers(0.9), {}, ["accuracy minus champion's, lower end"]),
        (answers(0.87, sure=0.87), answers(0.9), {"margin": 0.05}, []),
        (answers(0.9, sure=0.99), answers(0.9), {}, ["calibration error minus champion's"]),
        (answers(0.9, gap=float("nan")), None, {}, ["generalization gap"]),
    ],
)
def test_each_gate_fails_for_its_own_reason(
    challenger: Answers, champion: Answers | None, limits: dict[str, float], expected: list[str]
) -> None:
    assert failing(challenger, champion, **limits) == expected


def test_what_fails_is_said_with_its_number_its_limit_and_by_how_much() -> None:
    verdict = gates.judge(LABELS, answers(0.65), None, LIMITS)
    assert gates.failures(verdict) == "accuracy is 0.6500, must be >= 0.7000 (short by 0.0500)"
    assert not gates.all_hold(verdict)
    assert gates.failures(gates.judge(LABELS, answers(0.9), None, LIMITS)) == ""


@pytest.mark.parametrize(
    ("change", "holds"), [(0.0, True), (0.009, True), (0.02, False), (np.inf, False), (np.nan, False)]
)
def test_answers_that_changed_since_they_were_evaluated_are_noticed(change: float, holds: bool) -> None:
    evaluated = answers(0.9).probability
    now = evaluated.copy()
    now[17] += change
    assert gates.same_answers(evaluated, now, LIMITS).holds == holds


@given(probability=arrays(float, len(LABELS), elements=st.floats(0, 1)), gap=st.floats(-1, 1))
def test_a_model_is_never_worse_than_itself(probability: Any, gap: float) -> None:
    same = Answers(probability, gap)
    verdict = {gate.name: gate for gate in gates.judge(LABELS, same, same, LIMITS)}
    assert verdict["accuracy minus champion's, lower end"].value == 0
    assert verdict["calibration error minus champion's"].value == 0


@given(st.sampled_from([">=", "<=", "<", ">"]), st.floats(-1, 1), st.floats(-1, 1))
def test_a_gate_holds_or_says_how_far_it_is(must_be: str, value: float, limit: float) -> None:
    gate = Gate("number", value, must_be, limit)
    compare = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}[must_be]
    assert gate.holds == compare(value, limit)
    assert gate.short_by == (0 if gate.holds else abs(value - limit))
