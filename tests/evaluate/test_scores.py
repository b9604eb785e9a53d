from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from car_or_truck.evaluate import scores

LABELS = np.array([0, 0, 0, 1, 1], np.uint8)
STATED = np.array([0.1, 0.4, 0.8, 0.3, 0.9], np.float32)


def test_scores_at_a_threshold_are_those_of_the_confusion() -> None:
    # at 0.5: two right and one wrong Car, one right and one wrong Truck
    assert scores.at_threshold(LABELS, STATED) == pytest.approx(
        {
            "binary_accuracy": 3 / 5,
            "balanced_accuracy": (2 / 3 + 1 / 2) / 2,
            "precision": 1 / 2,
            "recall": 1 / 2,
            "f1": 1 / 2,
        }
    )
    assert scores.at_threshold(LABELS, STATED, 0.2)["recall"] == 1
    assert scores.at_threshold(LABELS, STATED, 0.95)["precision"] == 0  # never said


def test_scores_of_probabilities_against_plain_counting() -> None:
    found = scores.of_probabilities(LABELS, STATED)
    pairs = [(STATED[truck] > STATED[car]) for truck in (3, 4) for car in (0, 1, 2)]
    assert found["roc_auc"] == pytest.approx(np.mean(pairs))
    assert found["brier_score"] == pytest.approx(((STATED - LABELS) ** 2).mean())
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert "roc_auc" not in scores.of_probabilities(LABELS[:3], STATED[:3])  # of one class alone


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1, max_size=30))
def test_the_log_loss_is_keras_s(answers: list[tuple[int, float]]) -> None:
    labels = np.array([label for label, _ in answers], np.uint8)
    stated = np.array([value for _, value in answers], np.float32)
    expected = float(keras.losses.BinaryCrossentropy()(labels[:, None].astype(np.float32), stated[:, None]))
    assert scores.log_loss(labels, stated) == pytest.approx(expected, rel=0.02, abs=1e-5)
    assert scores.accuracy(labels, stated) == pytest.approx(
        float(keras.ops.mean(keras.metrics.binary_accuracy(labels[:, None], stated[:, None])))
    )
