from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from car_or_truck.cells.results import Evaluation
from car_or_truck.params import Promotion
from car_or_truck.registry import gates
from car_or_truck.registry.gates import Decision, Gate

LIMITS = Promotion(min_accuracy=0.7, margin=0.02, max_gap=0.2, max_calibration_worsening=0.05, tolerance=0.01)
LABELS = np.array([0, 1] * 500, np.uint8)


def evaluation(probability: Any, gap: float = 0.1) -> Evaluation:
    table = pd.DataFrame({"label": LABELS, "probability": probability})
    return Evaluation({"generalization_gap": gap, "training_gap": 0.9}, table)


def scoring(accuracy: float, gap: float = 0.1, sure: float = 0.9) -> Evaluation:
    """Wrong on the first images, and right on the others."""
    wrong = np.arange(len(LABELS)) < round((1 - accuracy) * len(LABELS))
    predicted = np.where(wrong, 1 - LABELS, LABELS)
    return evaluation(np.where(predicted == 1, sure, 1 - sure), gap)


def failing(challenger: Evaluation, champion: Evaluation | None = None, **limits: float) -> list[str]:
    decision = gates.judge(challenger, champion, LIMITS.model_copy(update=limits))
    return [gate.name for gate in decision.gates if not gate.passes]


def test_a_good_model_passes_with_and_without_a_champion() -> None:
    assert failing(scoring(0.9)) == []
    assert failing(scoring(0.9), scoring(0.9)) == []


@pytest.mark.parametrize(
    ("challenger", "champion", "limits", "expected"),
    [
        (scoring(0.65), None, {}, ["accuracy"]),
        (scoring(0.52), None, {"min_accuracy": 0.0}, ["accuracy, lower end"]),
        (
            evaluation(np.full(1000, 0.9), 0.0),
            None,
            {},
            ["accuracy", "accuracy, lower end", "share of the most frequent prediction"],
        ),
        (scoring(0.9, gap=0.21), None, {}, ["generalization gap"]),
        (scoring(0.87, sure=0.87), scoring(0.9), {}, ["accuracy minus champion's, lower end"]),
        (scoring(0.87, sure=0.87), scoring(0.9), {"margin": 0.05}, []),
        (scoring(0.9, sure=0.99), scoring(0.9), {}, ["calibration error minus champion's"]),
        (scoring(0.9, gap=float("nan")), None, {}, ["generalization gap"]),
    ],
)
def test_each_gate_fails_for_its_own_reason(
    challenger: Evaluation, champion: Evaluation | None, limits: dict[str, float], expected: list[str]
) -> None:
    assert failing(challenger, champion, **limits) == expected


def test_the_largest_drop_on_a_slice_has_a_gate_if_params_limit_it() -> None:
    model = scoring(0.9)
    model.scores["largest_slice_drop"] = 0.12
    assert failing(model) == failing(model, max_slice_drop=0.12) == []
    assert failing(model, max_slice_drop=0.1) == ["largest drop on a slice"]
    del model.scores["largest_slice_drop"]
    decision = gates.judge(model, None, LIMITS.model_copy(update={"max_slice_drop": 0.1}))
    assert decision.failures == "largest drop on a slice is unknown, must be <= 10 points"
    assert decision.gates[-1].note == "not measured: evaluate.slices is false"


def test_what_fails_is_said_with_its_number_its_limit_and_by_how_much() -> None:
    decision = gates.judge(scoring(0.65, gap=0.3), None, LIMITS)
    assert decision.failures == (
        "accuracy is 65.0%, must be >= 70.0% (short by 5 points); "
        "generalization gap is 30 points, must be <= 20 points (short by 10 points)"
    )
    assert not decision.passes
    good = gates.judge(scoring(0.9), None, LIMITS)
    assert good.passes
    assert good.failures == ""


def test_one_gate_more_that_fails_turns_the_decision() -> None:
    good = gates.judge(scoring(0.9), None, LIMITS)
    serving = (Gate("pictures", 7, ">=", 8),)
    decision = Decision((*good.gates, *serving))
    assert (good.passes, decision.passes) == (True, False)
    assert decision.failures == "pictures is 7, must be >= 8 (short by 1)"
    assert decision.markdown.splitlines()[-1] == "| pictures | 7 | >= 8 | FAIL by 1 |  |"


def test_a_number_at_a_limit_that_it_must_not_reach_fails_by_nothing_that_can_be_said() -> None:
    decision = Decision((Gate("share", 1.0, "<", 1.0),))
    assert decision.failures == "share is 100.0%, must be < 100.0%"
    assert decision.gates[0].row[3] == "FAIL"


@pytest.mark.parametrize(
    ("change", "passes"), [(0.0, True), (0.009, True), (0.02, False), (np.inf, False), (np.nan, False)]
)
def test_predictions_that_changed_since_they_were_evaluated_are_noticed(change: float, passes: bool) -> None:
    evaluated = scoring(0.9).probability
    served = evaluated.copy()
    served[17] += change
    assert gates.same_predictions(evaluated, served, LIMITS).passes == passes


@given(probability=arrays(float, len(LABELS), elements=st.floats(0, 1)), gap=st.floats(-1, 1))
def test_a_model_is_as_good_as_itself_as_far_as_so_many_images_tell(probability: Any, gap: float) -> None:
    same = evaluation(probability, gap)
    values = {gate.name: gate.value for gate in gates.judge(same, same, LIMITS).gates}
    assert values["accuracy minus champion's, lower end"] == pytest.approx(-1.96 * 2**0.5 / (len(LABELS) + 2), rel=1e-3)
    assert values["calibration error minus champion's"] == 0
    assert values["generalization gap"] == gap


@pytest.mark.parametrize(("must_be", "passes"), [(">=", True), ("<=", True), (">", False), ("<", False)])
def test_a_number_at_its_limit_meets_it_unless_it_must_be_beyond(must_be: str, passes: bool) -> None:
    assert Gate("number", 0.75, must_be, 0.75).passes == passes


def test_a_gate_says_how_far_a_number_is_on_the_wrong_side_of_its_limit() -> None:
    gates = [Gate("number", value, must_be, 0.75) for must_be in (">=", ">", "<=", "<") for value in (0.25, 1.5)]
    assert [gate.short_by for gate in gates] == [0.5, 0.0, 0.5, 0.0, 0.0, 0.75, 0.0, 0.75]
