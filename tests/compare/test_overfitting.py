"""The words on overfitting. train/lesson/exercise-log.csv is the log that the lesson "Custom Convnets" prints."""

from __future__ import annotations

import pandas as pd
import pytest

from car_or_truck.compare.overfitting import NONE, Overfitting, sentence, verdict, widest_gaps
from helpers.cells import cell, predictions, result
from helpers.clones import ROOT

LESSON = pd.read_csv(ROOT / "tests/train/lesson/exercise-log.csv")


def test_the_lessons_log_is_read_as_its_author_reads_it() -> None:
    lesson_result = result(cell("exercise"), predictions([0.2, 0.9], [0, 1]), LESSON)
    case = Overfitting.from_result(lesson_result)
    assert (lesson_result.scores["best_epoch"], case.overfit_epoch) == (50, 30)
    assert case.lowest == 0.4218
    assert case.rise == pytest.approx(0.7014 - 0.4218)
    assert lesson_result.scores["training_gap"] == pytest.approx(0.9803 - 0.8517)
    assert case.gap == lesson_result.scores["generalization_gap"] == 0  # the table stands for both splits
    assert 27 <= lesson_result.scores["overfit_onset"] <= 30
    assert sentence("exercise", [case]) == (
        "exercise: strong overfitting: train accuracy is 0.0 points above validation; validation loss was lowest at "
        "epoch 30 and then rose by 0.28."
    )


def test_a_noisy_epoch_moves_the_lowest_but_not_the_onset() -> None:
    noisy = LESSON.copy()
    noisy.loc[45, "val_loss"] = 0.40  # one lucky epoch
    table = predictions([0.2, 0.9], [0, 1])
    plain, moved = (result(cell(), table, history).scores for history in (LESSON, noisy))
    assert (plain["overfit_epoch"], moved["overfit_epoch"]) == (30, 46)
    assert abs(moved["overfit_onset"] - plain["overfit_onset"]) <= 1


def some(gap: float, rise: float = 0.0, collapsed: bool = False) -> Overfitting:
    return Overfitting(20 if not rise else 12, 0.4, rise, gap, rise, collapsed)


@pytest.mark.parametrize(
    ("case", "grade"),
    [
        (some(0.0), NONE),
        (some(-0.05), NONE),
        (some(0.0194), NONE),
        (some(0.0196), "slight"),  # shown as 2.0 points
        (some(0.03), "slight"),
        (some(0.0, rise=0.03), "slight"),
        (some(0.06), "clear"),
        (some(0.01, rise=0.1), "clear"),
        (some(0.0, rise=0.2), "strong"),
        (some(0.11), "strong"),
        (some(0.11, collapsed=True), "collapsed"),
    ],
)
def test_the_grade_follows_from_the_gap_or_the_rise(case: Overfitting, grade: str) -> None:
    assert case.grade == grade


def test_a_rise_that_is_no_harm_or_that_was_not_saved_is_no_overfitting() -> None:
    table = predictions([0.2, 0.9], [0, 1])
    losses = pd.DataFrame({"epoch": [1, 2, 3], "loss": 0.1, "binary_accuracy": 1.0, "val_binary_accuracy": 1.0})
    tiny = Overfitting.from_result(result(cell(), table, losses.assign(val_loss=[1e-4, 2e-4, 9e-4]), kept_epoch=3))
    assert tiny.grade == NONE
    risen = losses.assign(val_loss=[0.3, 0.5, 0.6])
    cases = {epoch: Overfitting.from_result(result(cell(), table, risen, kept_epoch=epoch)) for epoch in (1, 2, 3)}
    assert {epoch: case.grade for epoch, case in cases.items()} == {1: NONE, 2: "strong", 3: "strong"}
    assert sentence("net", [cases[1]]).startswith("net: no sign of overfitting, of the saved weights: ")
    assert sentence("net", [cases[3]]).startswith("net: strong overfitting: ")


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        (
            [some(-0.012)],
            "net: no sign of overfitting: train accuracy is 1.2 points below validation; validation loss ended at "
            "its lowest (epoch 20).",
        ),
        (
            [some(0.093, 0.1)],
            "net: clear overfitting: train accuracy is 9.3 points above validation; validation loss was lowest at "
            "epoch 12 and then rose by 0.10.",
        ),
        (
            [some(0.03, 0.001)],  # not by 0.00
            "net: slight overfitting: train accuracy is 3.0 points above validation; validation loss was lowest at "
            "epoch 12 and then rose by 0.001.",
        ),
        (
            [some(0.05, 0.1), some(0.15, 0.3), some(0, collapsed=True)],
            "net (2 seeds): clear to strong overfitting: train accuracy is 10.0 points above validation (5.0 to 15.0);"
            " validation loss was lowest at epoch 12 and then rose by 0.20 on average (0.10 to 0.30)"
            " (1 collapsed seed left out).",
        ),
        (
            [some(0, collapsed=True)],
            "net: it collapsed to one answer for every image, so there is nothing to overfit.",
        ),
    ],
)
def test_a_variants_overfitting_in_a_sentence(cases: list[Overfitting], words: str) -> None:
    assert sentence("net", cases) == words


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        (
            {"fine": [some(0.008)], "worst": [some(0.15), some(0.19)], "clear": [some(0.06)]},
            "worst overfits most: a gap of 17.0 points between train and validation accuracy (strong). clear 6.0 "
            "(clear), fine 0.8 (none).",
        ),
        (
            {"fine": [some(0.008)], "better": [some(-0.01)]},
            "fine has the widest gap: 0.8 points between train and validation accuracy (none). better -1.0 (none).",
        ),
        (  # the loss of the other rises further
            {"wide": [some(0.03)], "risen": [some(0.025, 0.5)]},
            "wide has the widest gap: 3.0 points between train and validation accuracy (slight). risen 2.5 (strong).",
        ),
        (
            {"under": [some(-0.01, 0.05)], "over": [some(-0.02)]},
            "under has the highest gap: -1.0 points between train and validation accuracy (slight). over -2.0 (none).",
        ),
        (
            {"lone": [some(0.01), some(0.03), some(0.5, collapsed=True)], "constant": [some(0, collapsed=True)]},
            "lone has a gap of 2.0 points between train and validation accuracy (none to slight).",
        ),
        (
            {f"v{place}": [some(place / 100)] for place in range(8)},
            "v7 overfits most: a gap of 7.0 points between train and validation accuracy (clear). v6 6.0 (clear), v5 "
            "5.0 (clear), v4 4.0 (slight), v3 3.0 (slight), v2 2.0 (slight), and 2 more below.",
        ),
        (
            {"constant": [some(0, collapsed=True)]},
            "Every model collapsed to one answer for every image, so there is nothing to overfit.",
        ),
    ],
)
def test_the_verdict_names_the_one_that_overfits_most(cases: dict[str, list[Overfitting]], words: str) -> None:
    assert verdict(widest_gaps(cases)) == words
