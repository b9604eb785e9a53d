"""The words on overfitting. train/lesson/exercise-log.csv is the log that the lesson "Custom Convnets" prints."""

from __future__ import annotations

import pandas as pd
import pytest

from car_or_truck.compare.overfitting import NONE, Overfitting, of_history, sentence
from helpers.clones import ROOT

LESSON = pd.read_csv(ROOT / "tests/train/lesson/exercise-log.csv")


def test_the_lessons_log_is_read_as_its_author_reads_it() -> None:
    found = of_history(LESSON)
    assert (found.epochs, found.best_epoch, found.overfit_epoch) == (50, 50, 30)
    assert found.lowest == 0.4218
    assert found.rise == pytest.approx(0.7014 - 0.4218)
    assert found.gap == pytest.approx(0.9803 - 0.8517)
    assert 27 <= found.overfit_onset <= 30
    assert sentence("exercise", [found]) == (
        "exercise: its validation loss was lowest at epoch 30 and ended 0.28 higher; it ends 12.9 points better on "
        "train than on valid: strong overfitting."
    )


def test_a_noisy_epoch_moves_the_lowest_but_not_the_onset() -> None:
    noisy = LESSON.copy()
    noisy.loc[45, "val_loss"] = 0.40  # one lucky epoch
    assert of_history(noisy).overfit_epoch == 46
    assert abs(of_history(noisy).overfit_onset - of_history(LESSON).overfit_onset) <= 1


def some(gap: float, rise: float = 0.0, kept_gap: float | None = None, collapsed: bool = False) -> Overfitting:
    return Overfitting(20, 18, 20 if not rise else 12, 13, 0.4, rise, gap, kept_gap, collapsed)


@pytest.mark.parametrize(
    ("found", "grade"),
    [
        (some(0.0), NONE),
        (some(-0.05), NONE),
        (some(0.03), "slight overfitting"),
        (some(0.0, rise=0.03), "slight overfitting"),
        (some(0.06), "clear overfitting"),
        (some(0.01, kept_gap=0.07), "clear overfitting"),
        (some(0.0, rise=0.2), "strong overfitting"),
        (some(0.11), "strong overfitting"),
    ],
)
def test_the_grade_follows_from_the_gap_or_the_rise(found: Overfitting, grade: str) -> None:
    assert found.grade == grade


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            [some(-0.012)],
            "net: its validation loss was lowest at the end (20 epochs); it ends 1.2 points worse on train than on "
            "valid: no sign of overfitting.",
        ),
        (
            [some(0.05, 0.1, 0.093)],
            "net: its validation loss was lowest at epoch 12 and ended 0.10 higher; it ends 5.0 points better on train "
            "than on valid, 9.3 better when the finished net answers to train again: clear overfitting.",
        ),
        (
            [some(0.05, 0.1), some(0.15, 0.3), some(0, collapsed=True)],
            "net (2 seeds): its validation loss was lowest at epoch 12 and ended 0.20 higher on average (0.10 to 0.30);"
            " it ends 10.0 points better on train than on valid (5.0 to 15.0): clear to strong overfitting"
            " (1 seed left out: one answer to every image).",
        ),
        (
            [some(0, collapsed=True)],
            "net: it gives the same answer to every image, so there is nothing that could overfit.",
        ),
    ],
)
def test_the_sentence(found: list[Overfitting], words: str) -> None:
    assert sentence("net", found) == words
