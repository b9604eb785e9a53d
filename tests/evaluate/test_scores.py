"""Scores against scikit-learn, Keras and statsmodels, against closed forms, and by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics
from sklearn.calibration import calibration_curve
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from car_or_truck.evaluate import scores
from car_or_truck.evaluate.stage import score
from helpers.cells import HISTORY, predictions

LABELS = np.array([0, 0, 0, 1, 1], np.uint8)
PREDICTED = np.array([0.1, 0.4, 0.8, 0.3, 0.9])

answers = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1, max_size=60)


def arrays(pairs: list[tuple[int, float]]) -> tuple[Any, Any]:
    """As `evaluate` has them: labels, and a model's float32 probabilities as float64."""
    labels, probability = zip(*pairs, strict=True)
    return np.array(labels, np.uint8), np.array(probability, np.float32).astype(np.float64)


def test_scores_are_those_of_the_confusion_matrix() -> None:
    result = scores.all_scores(LABELS, PREDICTED)
    # at 0.5: two right and one wrong Car, one right and one wrong Truck
    expected = {
        "binary_accuracy": 3 / 5,
        "balanced_accuracy": (2 / 3 + 1 / 2) / 2,
        "precision": 1 / 2,
        "recall": 1 / 2,
        "f1": 1 / 2,
        "brier_score": ((PREDICTED - LABELS) ** 2).mean(),
        "average_precision": 0.5 * 1 + 0.5 * 2 / 4,
        "roc_auc": np.mean([PREDICTED[truck] > PREDICTED[car] for truck in (3, 4) for car in (0, 1, 2)]),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert scores.all_scores(LABELS, PREDICTED / 2)["precision"] == 0  # it never answers Truck


@settings(max_examples=60)
@given(answers)
def test_scores_are_scikit_learns_or_keras_s(pairs: list[tuple[int, float]]) -> None:
    labels, probability = arrays(pairs)
    assume(len(set(labels)) == 2)
    predicted = probability > 0.5
    result = scores.all_scores(labels, probability)
    low, high = proportion_confint((predicted == labels).sum(), len(labels), method="wilson")
    truth, answer = (keras.ops.convert_to_tensor(values[:, None], "float32") for values in (labels, probability))
    expected = {
        "loss": float(keras.ops.mean(keras.losses.binary_crossentropy(truth, answer))),
        "binary_accuracy": metrics.accuracy_score(labels, predicted),
        "accuracy_low": low,
        "accuracy_high": high,
        "brier_score": metrics.brier_score_loss(labels, probability),
    }
    assert result["loss"] == pytest.approx(expected.pop("loss"), rel=0.02, abs=1e-5)  # Keras's is of float32
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert result["binary_accuracy"] == pytest.approx(
        float(keras.ops.mean(keras.metrics.binary_accuracy(truth, answer))), abs=1e-6
    )


@given(answers)
def test_accuracy_alone_is_that_of_all_scores(pairs: list[tuple[int, float]]) -> None:
    labels, probability = arrays(pairs)
    assume(len(set(labels)) == 2)
    assert scores.accuracy(labels, probability) == scores.all_scores(labels, probability)["binary_accuracy"]
    assert scores.has_collapsed(probability) == (len({value > 0.5 for value in probability}) == 1)


def test_a_prediction_of_exactly_one_half_is_the_first_class() -> None:
    assert scores.accuracy(np.array([0, 1], np.uint8), np.array([0.5, 0.5])) == 0.5
    assert scores.accuracy(np.array([0, 1], np.uint8), np.array([0.5, np.nextafter(0.5, 1)])) == 1


def test_a_prediction_that_is_certain_and_wrong_costs_what_keras_charges() -> None:
    labels, probability = np.array([1, 0], np.uint8), np.array([0.0, 1.0])
    charged = keras.losses.BinaryCrossentropy()(labels[:, None].astype("float32"), probability[:, None])
    assert scores.log_loss(labels, probability) == pytest.approx(float(charged), rel=0.02)


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_wilson_interval_is_that_of_statsmodels(right: int, total: int) -> None:
    right = min(right, total)
    assert scores.wilson(right, total) == pytest.approx(proportion_confint(right, total, method="wilson"))


def test_the_wilson_interval_covers_the_true_share_19_times_of_20() -> None:
    for share, total in ((0.85, 384), (0.79, 700), (0.5, 40)):
        counts = np.arange(total + 1)
        intervals = np.array([scores.wilson(int(right), total) for right in counts])
        covered = (intervals[:, 0] <= share) & (share <= intervals[:, 1])
        assert binom.pmf(counts, total, share)[covered].sum() == pytest.approx(0.95, abs=0.025)  # no chance in it


@pytest.mark.parametrize(
    ("p", "corrected"),
    [([], []), ([0.04], [0.04]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.6, 0.5], [1, 1])],
)
def test_holm_multiplies_by_what_is_left(p: list[float], corrected: list[float]) -> None:
    assert list(scores.holm(p)) == pytest.approx(corrected)


@settings(max_examples=20)  # statsmodels looks for garbage at each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holms_correction_is_that_of_statsmodels(p: list[float]) -> None:
    assert scores.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@settings(max_examples=30)
@given(answers)
def test_the_calibration_error_is_that_of_scikit_learns_curve(pairs: list[tuple[int, float]]) -> None:
    labels, probability = arrays(pairs)
    frequency, predicted = calibration_curve(labels, probability, n_bins=10)
    bins = np.histogram(np.searchsorted(np.linspace(0, 1, 11)[1:-1], probability), np.arange(11))[0]
    expected = (np.abs(frequency - predicted) * bins[bins > 0]).sum() / labels.size
    assert scores.expected_calibration_error(labels, probability) == pytest.approx(expected, abs=1e-12)


def test_a_model_whose_probabilities_come_true_is_calibrated() -> None:
    random = np.random.default_rng(2)
    probability = random.random(200_000)
    labels = random.random(200_000) < probability
    assert scores.expected_calibration_error(labels, probability) < 0.01
    assert scores.expected_calibration_error(labels, np.ones(200_000)) == pytest.approx(0.5, abs=0.01)


@given(
    st.integers(6, 40), st.integers(6, 40), st.floats(0.001, 1), st.floats(0.001, 1), st.data(), st.floats(-100, 100)
)
def test_one_noisy_epoch_hardly_moves_the_smoothed_onset(
    down: int, up: int, fall: float, rise: float, data: Any, noise: float
) -> None:
    losses = np.concatenate([fall * np.arange(down, 0, -1), rise * np.arange(up)])
    plain = scores.smoothed_onset(losses)
    assert abs(plain - (down + 1)) <= 2
    losses[data.draw(st.integers(0, losses.size - 1))] = noise
    assert abs(scores.smoothed_onset(losses) - (down + 1)) <= 3


def test_the_onset_of_a_curve_that_never_rises_is_its_end() -> None:
    assert scores.smoothed_onset([0.5]) == 1
    assert scores.smoothed_onset(np.linspace(1, 0, 30)) >= 29


@pytest.mark.parametrize(
    ("rise", "text"),
    [(0.0, "0.00"), (0.001, "0.001"), (0.00034, "0.0003"), (0.0049, "0.005"), (0.005, "0.01"), (0.28, "0.28")],
)
def test_a_small_rise_is_not_printed_as_none(rise: float, text: str) -> None:
    assert scores.rise_text(rise) == text


def test_the_gap_is_of_the_saved_weights_and_the_training_gap_of_the_last_epoch() -> None:
    # three of four right on train and three of five on validation; HISTORY ends at 0.75 and 0.6
    train = predictions([0.1, 0.9, 0.9, 0.9], [0, 0, 1, 1])
    valid = predictions([0.1, 0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1, 0])
    history = HISTORY.assign(binary_accuracy=[0.5, 0.9])
    result = score(history, 1, {"train": train, "valid": valid})
    assert result["train_binary_accuracy"] == 3 / 4
    assert result["val_binary_accuracy"] == 3 / 5
    assert result["generalization_gap"] == 3 / 4 - 3 / 5
    assert result["training_gap"] == pytest.approx(0.9 - 0.6)
    assert (result["loss"], result["binary_accuracy"], result["kept_epoch"]) == (0.7, 0.5, 1)  # of the kept epoch
    assert (result["val_accuracy_low"], result["val_accuracy_high"]) == scores.wilson(3, 5)
    assert not [name for name in result if name.startswith("test_")]


def test_a_test_split_is_scored_like_validation() -> None:
    table = predictions([0.1, 0.9, 0.6], [0, 1, 0])
    result = score(HISTORY, 2, dict.fromkeys(("train", "valid", "test"), table))
    valid = {name.removeprefix("val_"): value for name, value in result.items() if name.startswith("val_")}
    test = {name.removeprefix("test_"): value for name, value in result.items() if name.startswith("test_")}
    assert test == valid == scores.all_scores(np.array([0, 1, 0], np.uint8), np.array([0.1, 0.9, 0.6]))
