"""Temperature and its cross-fitting, by simulation and against an independent optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from car_or_truck.evaluate import calibration
from car_or_truck.evaluate.reliability import tempered
from car_or_truck.evaluate.scores import expected_calibration_error, log_loss

Floats = NDArray[np.floating[Any]]


def simulated(temperature: float, count: int = 20_000) -> tuple[NDArray[np.uint8], Floats]:
    """Labels, and probabilities whose log-odds are `temperature` times too large."""
    random = np.random.default_rng(0)
    log_odds = random.normal(0.3, 2, count)
    return (random.random(count) < expit(log_odds)).astype(np.uint8), expit(temperature * log_odds)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoiled_the_probabilities_is_recovered(truth: float) -> None:
    labels, probability = simulated(truth)
    estimate = calibration.temperature(labels, probability)
    assert estimate == pytest.approx(truth, rel=0.04)
    # An independent optimum: 1 / T is the coefficient of a logistic regression on the log-odds, without intercept.
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(logit(probability)[:, None], labels)
    assert estimate == pytest.approx(1 / regression.coef_.item(), rel=1e-3)


def test_a_temperature_repairs_the_calibration_error_that_it_caused() -> None:
    labels, probability = simulated(0.5)
    scores = calibration.calibration_scores(labels, probability)
    assert expected_calibration_error(labels, probability) > 0.08
    assert scores["calibrated_expected_calibration_error"] < 0.015
    assert scores["calibrated_loss"] < log_loss(labels, probability) - 0.02
    assert scores["calibrated_expected_calibration_error"] == expected_calibration_error(
        labels, calibration.cross_fitted(labels, probability)
    )


def test_no_image_is_judged_by_a_temperature_that_knows_its_label() -> None:
    labels, probability = simulated(2.0, 60)
    before = calibration.cross_fitted(labels, probability)
    for place in range(3):
        others = probability.copy()
        peers = np.flatnonzero(labels == labels[place])  # its half: every second of its class
        mine = peers[np.flatnonzero(peers == place)[0] % 2 :: 2]
        others[mine] = 0.5
        changed = calibration.cross_fitted(labels, others)
        rest = np.setdiff1d(np.flatnonzero(labels != labels[place]), mine)
        assert (changed[rest] != before[rest]).any()
        untouched = np.setdiff1d(peers, mine)
        assert (changed[untouched] != before[untouched]).all()
        variation = probability.copy()
        variation[place] = 0.5  # only its own calibrated probability and the other half's change
        same_half = np.setdiff1d(mine, [place])
        np.testing.assert_array_equal(calibration.cross_fitted(labels, variation)[same_half], before[same_half])


def test_where_no_answer_is_wrong_the_probabilities_stay_what_they_are() -> None:
    labels = np.array([0, 1] * 10, np.uint8)
    for confident in (0.5, 0.55, 0.8, 1.0):
        right = np.where(labels == 1, confident, 1 - confident)
        assert calibration.temperature(labels, right) == 1
        assert calibration.cross_fitted(labels, right) == pytest.approx(right, abs=1e-6)


def test_where_all_answers_are_wrong_the_temperature_stays_finite() -> None:
    labels = np.array([0, 1] * 10, np.uint8)
    assert calibration.temperature(labels, np.where(labels == 1, 0.2, 0.8)) == pytest.approx(
        calibration.HOTTEST, rel=1e-3
    )


@given(st.floats(0, 1), st.floats(1 / calibration.HOTTEST, calibration.HOTTEST))
def test_no_temperature_carries_a_probability_across_one_half(probability: float, temperature: float) -> None:
    calibrated = float(tempered(np.array([probability]), temperature)[0])
    assert 0 <= calibrated <= 1
    assert (calibrated - 0.5) * (probability - 0.5) >= 0
    mirrored = float(tempered(np.array([1 - probability]), temperature)[0])
    assert mirrored == pytest.approx(1 - calibrated, abs=1e-6)
