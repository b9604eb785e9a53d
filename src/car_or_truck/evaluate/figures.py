"""The figures of one trained model: its curves, its predictions for the validation set, its worst mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, precision_recall_curve, roc_curve

from car_or_truck import drawing
from car_or_truck.drawing import TRAIN, VALID, Pixels
from car_or_truck.evaluate.scores import BINS, calibration_bins, rise_text
from car_or_truck.train.history import derive
from car_or_truck.train.recipe import THRESHOLD

MOST_MISTAKES = 24
SQUARE = (4.6, 4.2)  # inches
REFERENCE: dict[str, Any] = {"color": "#888888", "linestyle": ":", "linewidth": 1}


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for the validation set."""

    title: str  # VARIANT-SEED
    classes: tuple[str, str]
    images: Pixels  # [n, h, w, 3], as the model takes them
    table: pd.DataFrame  # name, label, probability of the second class

    @property
    def labels(self) -> NDArray[np.uint8]:
        """0 or 1: [n]."""
        return np.asarray(self.table["label"], np.uint8)

    @property
    def probability(self) -> NDArray[np.float64]:
        """P(second class): [n]."""
        return np.asarray(self.table["probability"], np.float64)

    def caption(self, place: int) -> str:
        """The true class of an image, and the predicted probability."""
        return f"{self.classes[self.labels[place]]}: P({self.classes[1]}) {self.probability[place]:.2f}"


def draw(valid: Predictions, history: pd.DataFrame, scores: Mapping[str, Any], folder: Path) -> None:
    """All figures of this file, into `folder`."""
    learning_curves(history, valid.title, folder / "learning_curves.png")
    confusion(valid, folder / "confusion.png")
    roc(valid, scores["val_roc_auc"], folder / "roc.png")
    precision_recall(valid, scores["val_average_precision"], folder / "precision_recall.png")
    calibration(valid, scores["val_expected_calibration_error"], folder / "calibration.png")
    mistakes(valid, folder / "mistakes.png")


def learning_curves(history: pd.DataFrame, title: str, path: Path) -> None:
    """The lesson's two plots: loss and accuracy over the epochs, on train and validation."""
    derived = derive(history)
    lowest, rise, gap = derived["overfit_epoch"], derived["overfit_rise"], 100 * derived["training_gap"]
    marker = "o" if len(history) == 1 else None
    with drawing.canvas(path, 11.5, 4, 2, title=title) as (_, (loss, accuracy)):
        for axes, name in ((loss, "loss"), (accuracy, "binary_accuracy")):
            axes.plot(history["epoch"], history[name], color=TRAIN, marker=marker, label="train")
            axes.plot(history["epoch"], history[f"val_{name}"], color=VALID, marker=marker, label="validation")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.axvline(lowest, **REFERENCE)
        end = f"epoch {lowest}, then rose by {rise_text(rise)}" if rise > 0 else "the last epoch"
        loss.set(ylabel="binary cross-entropy (nats)", title=f"val_loss lowest at {end}")
        side = "above" if gap >= 0 else "below"
        message = f"train ends {abs(gap):.1f} points {side} validation, as logged in training"
        accuracy.set(ylabel="accuracy", title=message)
        accuracy.yaxis.set_major_formatter(PercentFormatter(1))
        accuracy.legend()


def confusion(valid: Predictions, path: Path) -> None:
    """Counts of (actual, predicted) classes; the colour is the share of the actual class."""
    predicted = valid.probability > THRESHOLD
    counts = confusion_matrix(valid.labels, predicted)
    shares = confusion_matrix(valid.labels, predicted, normalize="true")
    correct = np.trace(counts) / counts.sum()
    with drawing.canvas(path, *SQUARE) as (_, (axes,)):
        axes.grid(visible=False)
        display = ConfusionMatrixDisplay(shares, display_labels=valid.classes)
        display.plot(ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
        for text, count, share in zip(display.text_.flat, counts.flat, shares.flat, strict=True):
            text.set_text(f"{count}\n{share:.1%}")
        title = f"{valid.title}\n{correct:.1%} of {counts.sum()} validation images correct"
        axes.set(xlabel="predicted", ylabel="actual", title=title)


def roc(valid: Predictions, area: float, path: Path) -> None:
    """The receiver operating characteristic, the second class positive."""
    negative, positive = valid.classes
    with _unit_square(valid, path, f"ranks a {positive} above a {negative} in {area:.1%} of pairs") as axes:
        axes.plot([0, 1], [0, 1], **REFERENCE)
        axes.plot(*roc_curve(valid.labels, valid.probability)[:2], color=VALID)
        axes.set(xlabel=f"share of {negative} taken for {positive}", ylabel=f"share of {positive} recognised")


def precision_recall(valid: Predictions, average: float, path: Path) -> None:
    """Precision over recall of the second class; dotted: its share, the precision of a random answer."""
    precision, recall, _ = precision_recall_curve(valid.labels, valid.probability)
    with _unit_square(valid, path, f"average precision {average:.1%}") as axes:
        axes.axhline(valid.labels.mean(), **REFERENCE)
        axes.plot(recall, precision, color=VALID, drawstyle="steps-post")
        axes.set(xlabel=f"recall of {valid.classes[1]}", ylabel=f"precision of {valid.classes[1]}")


def calibration(valid: Predictions, error: float, path: Path) -> None:
    """Reliability: the share of the second class in each tenth of predicted probability; dot area is its images."""
    observed, predicted = calibration_curve(valid.labels, valid.probability.clip(0, 1), n_bins=BINS)
    counts = np.bincount(calibration_bins(valid.probability), minlength=BINS)
    positive = valid.classes[1]
    with _unit_square(valid, path, f"calibration error: {100 * error:.1f} points") as axes:
        axes.plot([0, 1], [0, 1], **REFERENCE)
        axes.plot(predicted, observed, color=VALID, linewidth=1)
        axes.scatter(predicted, observed, s=20 + 300 * counts[counts > 0] / counts.sum(), color=VALID, alpha=0.6)
        axes.set(xlabel=f"predicted P({positive})", ylabel=f"share of {positive} (dot area: images)")


@contextmanager
def _unit_square(valid: Predictions, path: Path, message: str) -> Iterator[Axes]:
    with drawing.canvas(path, *SQUARE) as (_, (axes,)):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", title=f"{valid.title}\n{message}")
        yield axes


def mistakes(valid: Predictions, path: Path) -> None:
    """The most confident mistakes, with their names, true classes and predictions."""
    wrongness = np.abs(valid.labels - valid.probability)
    worst = np.argsort(-wrongness, kind="stable")[:MOST_MISTAKES]
    worst = worst[wrongness[worst] > 1 - THRESHOLD]
    message = f"the {len(worst)} most confident mistakes on validation" if len(worst) else "no mistake on validation"
    rows = max(1, -(-len(worst) // 8))
    with drawing.canvas(path, 10, 1.55 * rows + 0.5, 8, rows, f"{valid.title}: {message}") as (_, grid):
        for axes in grid:
            axes.set_axis_off()
        for axes, place in zip(grid, worst, strict=False):
            axes.imshow(valid.images[place])
            caption = f"{short(valid.table['name'][place])}\n{valid.caption(place)}"
            axes.set_title(caption, fontsize=7.5, loc="center")


def short(name: str, most: int = 18) -> str:
    """The end of a long file name, without folders, which repeat the class."""
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= most else f"…{name[1 - most :]}"
