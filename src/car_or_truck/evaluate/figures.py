"""The figures of one trained model: its curves, its predictions for the validation set, its worst mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, precision_recall_curve, roc_curve

from car_or_truck import drawing
from car_or_truck.drawing import MODEL, Pixels
from car_or_truck.evaluate.scores import BINS, reliability_bins, rise_text, wilson
from car_or_truck.train.history import derive
from car_or_truck.train.recipe import THRESHOLD, Recipe

MOST_MISTAKES = 18
FEWEST = 10  # images in a bin through which a line is drawn
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
        """The true class of an image, and the prediction with its confidence."""
        return caption(self.classes, int(self.labels[place]), float(self.probability[place]))


def caption(classes: Sequence[str], label: int, probability: float) -> str:
    """ "Truck, predicted Car 97%", or "Car 99%" where the prediction is correct."""
    predicted = int(probability > THRESHOLD)
    confidence = f"{classes[predicted]} {max(probability, 1 - probability):.0%}"
    return confidence if predicted == label else f"{classes[label]}, predicted {confidence}"


def draw(
    valid: Predictions, history: pd.DataFrame, scores: Mapping[str, Any], unlike: Sequence[str], folder: Path
) -> None:
    """All figures of this file, into `folder`; `unlike` is `only_in_training` of the recipe."""
    for suffix in (".png", ".svg"):  # for MLflow, and for the report
        learning_curves(history, valid.title, unlike, folder / f"learning_curves{suffix}")
        confusion(valid, folder / f"confusion{suffix}")
    roc(valid, scores["val_roc_auc"], folder / "roc.png")
    precision_recall(valid, scores["val_average_precision"], folder / "precision_recall.png")
    calibration(valid, scores["val_expected_calibration_error"], folder / "calibration.png")
    mistakes(valid, folder / "mistakes.png")


def only_in_training(recipe: Recipe) -> list[str]:
    """What changes the logged loss and accuracy on train, and not those on validation."""
    settings = [("dropout", max([recipe.head.dropout, *(block.dropout for block in recipe.blocks)]))]
    settings += [("label smoothing", recipe.loss.label_smoothing), ("mixup", recipe.augment.mixup), ("l2", recipe.l2)]
    words = [f"{name} {value:g}" for name, value in settings if value]
    words += ["class weights"] * (recipe.class_weight is not None)
    plain = recipe.augment.model_copy(update={"mixup": 0})
    return [*words, "augmentation"] if plain != type(plain)() else words


def learning_curves(history: pd.DataFrame, title: str, unlike: Sequence[str], path: Path) -> None:
    """The lesson's two plots: loss and accuracy over the epochs, solid on validation, dotted on train."""
    derived = derive(history)
    lowest, rise, gap = derived["overfit_epoch"], derived["overfit_rise"], 100 * derived["training_gap"]
    marker = "o" if len(history) == 1 else None
    with drawing.canvas(path, 11, 3.8, 2, title=title) as (sheet, (loss, accuracy)):
        for axes, name in ((loss, "loss"), (accuracy, "binary_accuracy")):
            train, valid = history[name], history[f"val_{name}"]
            axes.plot(history["epoch"], valid, color=MODEL, marker=marker, label="validation")
            axes.plot(history["epoch"], train, color=MODEL, marker=marker, linestyle=":", label="train")
            axes.fill_between(history["epoch"], train, valid, color=MODEL, alpha=0.12, linewidth=0)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
            axes.legend()
        loss.axvline(lowest, **REFERENCE)
        loss.annotate(
            f"lowest: epoch {lowest}",
            (lowest, 0.5),
            (-4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="center",
            fontsize=8,
        )
        end = f"epoch {lowest}" + (f", then rose by {rise_text(rise)}" if rise > 0 else ", and did not rise")
        loss.set(ylabel="binary cross-entropy (nats)", title=f"val_loss lowest at {end}")
        side = "above" if round(gap, 1) >= 0 else "below"
        message = f"train ends {abs(gap):.1f} points {side} validation, as logged"
        accuracy.set(ylabel="accuracy", title=message)
        accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        if unlike:
            words = f"Not quite comparable: only train has {', '.join(unlike)}."
            sheet.supxlabel(words, x=0.01, ha="left", fontsize=9)


def confusion(valid: Predictions, path: Path) -> None:
    """Counts of (actual, predicted) classes; the colour is the share of the actual class."""
    predicted = valid.probability > THRESHOLD
    counts = confusion_matrix(valid.labels, predicted)
    shares = confusion_matrix(valid.labels, predicted, normalize="true")
    correct = np.trace(counts) / counts.sum()
    with drawing.canvas(path, *SQUARE) as (_, (axes,)):
        axes.grid(visible=False)
        display = ConfusionMatrixDisplay(shares, display_labels=[fill(name, 16) for name in valid.classes])
        display.plot(ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
        for text, count, share in zip(display.text_.flat, counts.flat, shares.flat, strict=True):
            text.set_text(f"{count}\n{share:.1%}")
        title = f"{valid.title}\n{correct:.1%} of {counts.sum()} validation images correct"
        axes.set(xlabel="predicted", ylabel="actual", title=title)


def roc(valid: Predictions, area: float, path: Path) -> None:
    """The receiver operating characteristic, the second class positive."""
    negative, positive = valid.classes
    with _unit_square(valid, path, f"ranks {positive} above {negative} in {area:.1%} of pairs") as axes:
        axes.plot([0, 1], [0, 1], **REFERENCE)
        axes.plot(*roc_curve(valid.labels, valid.probability)[:2], color=MODEL)
        predicted = valid.probability > THRESHOLD
        axes.plot(predicted[valid.labels == 0].mean(), predicted[valid.labels == 1].mean(), "o", color=MODEL)
        axes.text(0.98, 0.04, f"dot: P({positive}) > {THRESHOLD:g}", ha="right", fontsize=9)
        axes.set(xlabel=f"share of {negative} taken for {positive}", ylabel=f"share of {positive} recognised")


def precision_recall(valid: Predictions, average: float, path: Path) -> None:
    """Precision over recall of the second class; dotted: its share, the precision of a random answer."""
    precision, recall, _ = precision_recall_curve(valid.labels, valid.probability)
    with _unit_square(valid, path, f"average precision {average:.1%}") as axes:
        axes.axhline(valid.labels.mean(), **REFERENCE)
        axes.plot(recall, precision, color=MODEL, drawstyle="steps-post")
        axes.set(xlabel=f"recall of {valid.classes[1]}", ylabel=f"precision of {valid.classes[1]}")


def calibration(valid: Predictions, error: float, path: Path) -> None:
    """Reliability: the share of the second class in each tenth of predicted probability, over a histogram."""
    bins = reliability_bins(valid.labels, valid.probability)
    predicted, observed, images = (bins[name].to_numpy() for name in bins)
    low, high = np.transpose([wilson(round(share * n), int(n)) for share, n in zip(observed, images, strict=True)])
    reach = np.clip([observed - low, high - observed], 0, None)  # rounding may leave -1e-17
    positive = valid.classes[1]
    with _unit_square(valid, path, f"calibration error: {100 * error:.1f} points") as axes:
        axes.bar((bins.index + 0.5) / BINS, images / images.sum(), 0.9 / BINS, color="#888888", alpha=0.25)
        axes.plot([0, 1], [0, 1], **REFERENCE)
        axes.errorbar(predicted, observed, yerr=reach, fmt="o", color=MODEL, capsize=2.5, linewidth=1)
        enough = images >= FEWEST
        axes.plot(predicted[enough], observed[enough], color=MODEL, linewidth=1)
        legend = f"(bars: of all images; line: bars of {FEWEST} or more)"
        axes.set(xlabel=f"predicted P({positive})", ylabel=f"share of {positive} with 95% CI\n{legend}")


@contextmanager
def _unit_square(valid: Predictions, path: Path, message: str) -> Iterator[Axes]:
    with drawing.canvas(path, *SQUARE) as (_, (axes,)):
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", title=f"{valid.title}\n{message}")
        yield axes


def worst_mistakes(labels: NDArray[np.uint8], probability: NDArray[np.float64]) -> NDArray[np.intp]:
    """The places of the most confident mistakes, the worst first."""
    wrong = np.flatnonzero((probability > THRESHOLD) != (labels == 1))
    return wrong[np.argsort(-np.abs(labels - probability)[wrong], kind="stable")][:MOST_MISTAKES]


def mistakes(valid: Predictions, path: Path) -> None:
    """The most confident mistakes, with their names, true classes and predictions."""
    worst = worst_mistakes(valid.labels, valid.probability)
    several = f"the {len(worst)} most confident mistakes"
    message = f"{several if len(worst) > 1 else 'one mistake' if len(worst) else 'no mistake'} on validation"
    rows = max(1, -(-len(worst) // 6))
    with drawing.contact_sheet(path, 6, rows, f"{valid.title}: {message}") as tiles:
        for tile, place in zip(tiles, worst, strict=False):
            tile.show(valid.images[place])
            tile.caption(f"{short(valid.table['name'][place])}\n{valid.caption(place)}")


def looks_sentence(heat: float | None, bars: float) -> str:
    """Where a model looks: `heat` is the share of its Grad-CAM on the letterbox bars, `bars` that of the area."""
    if heat is None:
        return "looks nowhere: no part of an image changes its predictions"
    if not bars:
        return "looks at images without letterbox bars"
    lead = "also looks at the letterbox bars" if heat > bars / 2 else "looks inside the picture"
    return f"{lead}: {heat:.0%} of its heat is on the bars, {bars:.0%} of the area"


def short(name: str, most: int = 18) -> str:
    """The end of a long file name, without folders, which repeat the class."""
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= most else f"…{name[1 - most :]}"
