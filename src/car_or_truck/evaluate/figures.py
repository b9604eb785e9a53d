"""The pictures of one trained cell: its curves, its answers on valid, its worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from car_or_truck import drawing
from car_or_truck.compare.statistics import BINS
from car_or_truck.drawing import TRAIN, VALID, Bools, Floats
from car_or_truck.train.history import derive


def learning_curves(history: pd.DataFrame, title: str, path: Path) -> None:
    """The lesson's two plots: loss and accuracy over the epochs, on train and on valid."""
    derived = derive(history)
    with drawing.canvas(path, 10, 4, 2) as (figure, (loss, accuracy)):
        marker = "o" if len(history) == 1 else None
        for axes, name in ((loss, "loss"), (accuracy, "binary_accuracy")):
            axes.plot(history["epoch"], history[name], color=TRAIN, marker=marker, label="train")
            axes.plot(history["epoch"], history[f"val_{name}"], color=VALID, marker=marker, label="valid")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.axvline(derived["overfit_epoch"], color="#666666", linestyle=":", linewidth=1)
        loss.set_ylabel("binary cross-entropy (nats)")
        loss.set_title(
            f"val_loss lowest at epoch {derived['overfit_epoch']}, ended {derived['overfit_rise']:.2f} higher"
            if derived["overfit_rise"] > 0
            else "val_loss lowest at the last epoch"
        )
        accuracy.set_ylabel("accuracy")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1))
        gap = 100 * derived["generalization_gap"]
        accuracy.set_title(f"ends {abs(gap):.1f} points {'better' if gap >= 0 else 'worse'} on train than on valid")
        accuracy.legend()
        figure.suptitle(title, x=0.01, ha="left", weight="bold")


def confusion(labels: Bools, probability: Floats, classes: Sequence[str], title: str, path: Path) -> None:
    """Counts of (true, predicted) classes at the threshold 0.5."""
    counts = confusion_matrix(labels, probability > 0.5, labels=[0, 1])
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    with drawing.canvas(path, 4.6, 4.2) as (_, (axes,)):
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.axhline(0.5, color="white", linewidth=2)
        axes.axvline(0.5, color="white", linewidth=2)
        for row in range(2):
            for column in range(2):
                colour = "white" if shares[row, column] > 0.5 else "black"
                text = f"{counts[row, column]}\n{shares[row, column]:.1%}"
                axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks([0, 1], classes)
        axes.set_yticks([0, 1], classes)
        axes.set_xlabel("predicted (at 0.5)")
        axes.set_ylabel("true")
        axes.set_title(f"{title}\n{np.trace(counts) / counts.sum():.1%} of {counts.sum()} valid images are right")


def roc(labels: Bools, probability: Floats, area: float, classes: Sequence[str], title: str, path: Path) -> None:
    """The receiver operating characteristic, the second class positive."""
    false_positive, true_positive, _ = roc_curve(labels, probability)
    with drawing.canvas(path, 4.6, 4.2) as (_, (axes,)):
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
        axes.plot(false_positive, true_positive, color=VALID)
        axes.set_xlabel(f"{classes[0]} taken for {classes[1]} (share)")
        axes.set_ylabel(f"{classes[1]} recognised (share)")
        axes.set_aspect("equal")
        axes.set_title(f"{title}\nranks a {classes[1]} above a {classes[0]} in {area:.1%} of pairs")


def precision_recall(
    labels: Bools, probability: Floats, average: float, classes: Sequence[str], title: str, path: Path
) -> None:
    """Precision over recall of the second class; dotted: its share, which an answer by chance would have."""
    precision, recall, _ = precision_recall_curve(labels, probability)
    with drawing.canvas(path, 4.6, 4.2) as (_, (axes,)):
        axes.axhline(labels.mean(), color="#999999", linestyle=":", linewidth=1)
        axes.plot(recall, precision, color=VALID, drawstyle="steps-post")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xlabel(f"recall: {classes[1]}s recognised (share)")
        axes.set_ylabel(f"precision: {classes[1]} said and right (share)")
        axes.set_title(f"{title}\nmean precision over all recalls {average:.1%}")


def calibration(
    labels: Bools, probability: Floats, error: float, classes: Sequence[str], title: str, path: Path
) -> None:
    """Reliability: share of the second class in each tenth of predicted probability; dots as large as their count."""
    observed, predicted = calibration_curve(labels, probability.clip(0, 1), n_bins=BINS)
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)  # as scikit-learn divides them
    counts = np.bincount(place, minlength=BINS)
    with drawing.canvas(path, 4.6, 4.2) as (_, (axes,)):
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
        axes.plot(predicted, observed, color=VALID, linewidth=1)
        axes.scatter(predicted, observed, s=20 + 300 * counts[counts > 0] / counts.sum(), color=VALID, alpha=0.6)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.set_xlabel(f"predicted P({classes[1]})")
        axes.set_ylabel(f"share of {classes[1]}")
        axes.set_title(f"{title}\nwhat it says is {100 * error:.1f} points off on average")


def mistakes(
    images: Bools,
    labels: Bools,
    probability: Floats,
    names: Sequence[str],
    classes: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """The images that the net was most wrongly sure of [n, h, w, 3], with their names, classes and its answers."""
    message = f"the {len(images)} worst mistakes on valid" if len(images) else "no mistake on valid"
    captions = [
        f"{short(name)}\n{classes[label]}: P({classes[1]}) {value:.2f}"
        for name, label, value in zip(names, labels, probability, strict=True)
    ]
    drawing.picture_sheet(images, captions, f"{title}: {message}", path)


def short(name: str, most: int = 18) -> str:
    """The end of a picture's name, where it is long: folders repeat the class."""
    name = name.rsplit("/", 1)[-1]
    return name if len(name) <= most else f"…{name[1 - most :]}"
