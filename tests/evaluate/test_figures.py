"""The messages that the figures of one model state in their titles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from car_or_truck import drawing
from car_or_truck.evaluate import figures
from helpers.cells import HISTORY, predictions
from helpers.nets import recipe


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that a test draws, instead of their files."""
    sheets: list[Figure] = []
    monkeypatch.setattr(drawing, "save", lambda figure, path: sheets.append(figure))
    return sheets


def titles(figure: Figure) -> list[str]:
    """Of the axes, or of a figure with a single one."""
    return [axes.get_title(loc="left") or figure.get_suptitle() for axes in figure.axes]


@pytest.mark.parametrize(
    ("losses", "title"),
    [
        ([0.6, 0.88], "val_loss lowest at epoch 1, then rose by 0.28"),
        ([0.6, 0.601], "val_loss lowest at epoch 1, then rose by 0.001"),
        ([0.601, 0.6], "val_loss lowest at epoch 2, and did not rise"),
    ],
)
def test_learning_curves_say_where_the_loss_was_lowest(losses: list[float], title: str, drawn: list[Figure]) -> None:
    figures.learning_curves(HISTORY.assign(val_loss=losses), "net", [], Path("curves.png"))
    assert titles(drawn[0]) == [title, "train ends 15.0 points above validation, as logged"]


def test_learning_curves_of_a_model_that_is_better_on_validation_say_below(drawn: list[Figure]) -> None:
    figures.learning_curves(HISTORY.assign(val_binary_accuracy=0.8), "net", [], Path("curves.png"))
    assert titles(drawn[0])[1] == "train ends 5.0 points below validation, as logged"


def test_learning_curves_say_what_only_the_training_has(drawn: list[Figure]) -> None:
    changes = {"head": {"dropout": 0.2}, "loss": {"label_smoothing": 0.05}, "augment": {"flip": True, "mixup": 0.3}}
    unlike = figures.only_in_training(recipe(**changes))
    assert unlike == ["dropout 0.2", "label smoothing 0.05", "mixup 0.3", "augmentation"]
    assert figures.only_in_training(recipe(class_weight="balanced")) == ["class weights"]
    assert figures.only_in_training(recipe()) == []
    figures.learning_curves(HISTORY, "net", unlike, Path("curves.png"))
    figures.learning_curves(HISTORY, "net", [], Path("curves.png"))
    assert "only train has dropout 0.2, label smoothing 0.05, mixup 0.3, augmentation" in drawn[0].get_supxlabel()
    assert drawn[1].get_supxlabel() == ""


def wrap_predictions(table: pd.DataFrame, classes: tuple[str, str] = ("Car", "Truck")) -> figures.Predictions:
    return figures.Predictions("net", classes, np.zeros((len(table), 8, 8, 3), np.uint8), table)


def test_the_confusion_matrix_counts_every_prediction(drawn: list[Figure]) -> None:
    figures.confusion(wrap_predictions(predictions([0.1, 0.5, 0.8, 0.3, 0.9], [0, 0, 0, 1, 1])), Path("confusion.png"))
    assert titles(drawn[0]) == ["net\n60.0% of 5 validation images correct"]
    words = [text.get_text() for text in drawn[0].axes[0].texts]
    assert words == ["2\n66.7%", "1\n33.3%", "1\n50.0%", "1\n50.0%"]


def test_the_most_confident_mistakes_come_first(drawn: list[Figure]) -> None:
    figures.mistakes(wrap_predictions(predictions([0.6, 0.1, 0.9, 0.2, 0.7], [0, 0, 0, 1, 1])), Path("mistakes.png"))
    sheet = drawn[0]
    assert sheet.get_suptitle() == "net: the 3 most confident mistakes on validation"
    captions = [text.get_text().splitlines() for text in sheet.axes[0].texts]
    assert captions == [
        ["2.png", "Car, predicted Truck 90%"],
        ["3.png", "Truck, predicted Car 80%"],
        ["0.png", "Car, predicted Truck 60%"],
    ]


def overprinted(texts: Sequence[Text]) -> list[tuple[str, str]]:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [(first, second) for (first, box), (second, other) in combinations(boxes, 2) if box.overlaps(other)]


def test_long_names_of_classes_do_not_overprint_each_other(drawn: list[Figure]) -> None:
    from car_or_truck.evaluate import inspection_figures

    classes = ("European shorthair cat", "Passenger train of 1950s")
    valid = wrap_predictions(predictions([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1]), classes)
    figures.mistakes(valid, Path("mistakes.png"))
    pictures: tuple[Any, Any, list[str]] = (valid.images, np.zeros((4, 2, 2)), [valid.caption(at) for at in range(4)])
    inspection_figures.grad_cam({"wrong:": pictures}, "net", Path("grad_cam.png"))
    for sheet in drawn:
        assert len(sheet.axes[0].texts) == 4
        assert overprinted(sheet.axes[0].texts) == []
    figures.confusion(valid, Path("confusion.png"))
    drawn[-1].draw_without_rendering()
    assert overprinted(drawn[-1].axes[0].get_xticklabels()) == []


def test_a_model_without_a_mistake_is_said_to_have_none(drawn: list[Figure]) -> None:
    figures.mistakes(wrap_predictions(predictions([0.1, 0.9], [0, 1])), Path("mistakes.png"))
    assert drawn[0].get_suptitle() == "net: no mistake on validation"
    assert not any(axes.images for axes in drawn[0].axes)


def test_a_line_of_calibration_passes_through_bins_of_enough_images_only(drawn: list[Figure]) -> None:
    table = predictions([0.05] * 12 + [0.55] * 2 + [0.95] * 12, [0] * 12 + [1, 0] + [1] * 12)
    figures.calibration(wrap_predictions(table), 0.05, Path("calibration.png"))
    lines = [np.asarray(line.get_xdata(), float) for line in drawn[0].axes[0].lines if line.get_linewidth() == 1]
    assert lines[-1] == pytest.approx([0.05, 0.95])


@pytest.mark.parametrize(
    ("heat", "bars", "words"),
    [
        (0.26, 0.19, "also looks at the letterbox bars: 26% of its heat is on the bars, 19% of the area"),
        (0.08, 0.19, "looks inside the picture: 8% of its heat is on the bars, 19% of the area"),
        (0.0, 0.0, "looks at images without letterbox bars"),
    ],
)
def test_where_a_model_looks_is_said(heat: float, bars: float, words: str) -> None:
    assert figures.looks_sentence(heat, bars) == words
