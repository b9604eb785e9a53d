"""Every picture that the project draws, with matplotlib, to PNG files.

A figure's title states its message, its axes have labels and units. Nothing here decides a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_curve

from car_or_truck.history import derive

TRAIN, VALID = "#0072b2", "#d55e00"  # Okabe and Ito's palette: told apart by colour-blind people too
STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 110,
    "font.size": 10,
    "axes.prop_cycle": mpl.cycler(
        color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666", "#8c3b00"]
    ),
}

Bools = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]


@contextmanager
def _figure(path: Path, width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with `columns` axes side by side, saved to `path` at the end."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
        yield figure, axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})


def learning_curves(history: pd.DataFrame, title: str, path: Path) -> None:
    """The lesson's two plots: loss and accuracy over the epochs, on train and on valid."""
    derived = derive(history)
    with _figure(path, 10, 4, 2) as (figure, (loss, accuracy)):
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
    with _figure(path, 4.6, 4.2) as (_, (axes,)):
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
    with _figure(path, 4.6, 4.2) as (_, (axes,)):
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
        axes.plot(false_positive, true_positive, color=VALID)
        axes.set_xlabel(f"{classes[0]} taken for {classes[1]} (share)")
        axes.set_ylabel(f"{classes[1]} recognised (share)")
        axes.set_aspect("equal")
        axes.set_title(f"{title}\nranks a {classes[1]} above a {classes[0]} in {area:.1%} of pairs")


def calibration(labels: Bools, probability: Floats, classes: Sequence[str], title: str, path: Path) -> None:
    """Share of the second class in each tenth of predicted probability; dots as large as their count."""
    edges = np.linspace(0, 1, 11)
    observed, predicted = calibration_curve(labels, probability.clip(0, 1), n_bins=10)
    counts = np.histogram(probability, edges)[0]
    sizes = 20 + 300 * counts[counts > 0] / counts.sum()
    with _figure(path, 4.6, 4.2) as (_, (axes,)):
        axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
        axes.plot(predicted, observed, color=VALID, linewidth=1)
        if len(sizes) == len(predicted):
            axes.scatter(predicted, observed, s=sizes, color=VALID, alpha=0.6)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.set_xlabel(f"predicted P({classes[1]})")
        axes.set_ylabel(f"share of {classes[1]}")
        axes.set_title(f"{title}\nsays {probability.mean():.0%} {classes[1]}; {labels.mean():.0%} are")


def mistakes(images: Bools, labels: Bools, probability: Floats, classes: Sequence[str], title: str, path: Path) -> None:
    """The images that the net was most wrongly sure of, with its answer."""
    columns = 8
    rows = max(1, -(-len(images) // columns))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(columns * 1.25, rows * 1.55 + 0.5), layout="constrained")
        message = f"the {len(images)} worst mistakes on valid" if len(images) else "no mistake on valid"
        figure.suptitle(f"{title}: {message}", x=0.01, ha="left", fontsize=11)
        for place, (image, label, value) in enumerate(zip(images, labels, probability, strict=True)):
            axes = figure.add_subplot(rows, columns, place + 1)
            axes.imshow(image)
            axes.set_axis_off()
            axes.set_title(f"{classes[label]}\nP({classes[1]}) {value:.2f}", fontsize=8, loc="center")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})


def contact_sheet(rows: dict[str, Bools], title: str, path: Path, columns: int = 12) -> None:
    """Small pictures, class by class: `rows` maps a caption to images [n, h, w, 3]."""
    strips = {caption: _tiles(images, columns) for caption, images in rows.items()}
    heights = [strip.shape[0] for strip in strips.values()]
    width = max(strip.shape[1] for strip in strips.values())
    with mpl.rc_context(STYLE):
        size = (10, 10 * sum(heights) / width + 0.4 + 0.3 * len(strips))
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", weight="bold")
        for axes, (caption, strip) in zip(
            figure.subplots(len(strips), 1, squeeze=False, height_ratios=heights)[:, 0], strips.items(), strict=True
        ):
            axes.imshow(strip)
            axes.set_axis_off()
            axes.set_title(caption)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})


def _tiles(images: Bools, columns: int) -> Bools:
    """[n, h, w, 3] as one picture, `columns` wide, on white."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows, columns, height + 4, width + 4, 3), 255, np.uint8)
    for place, image in enumerate(images):
        canvas[place // columns, place % columns, 2:-2, 2:-2] = image
    return canvas.swapaxes(1, 2).reshape(rows * (height + 4), columns * (width + 4), 3)


def overlay(curves: pd.DataFrame, path: Path) -> None:
    """Validation loss and accuracy of every cell over the epochs; the training curve dotted, in the same colour."""
    with _figure(path, 10, 4.4, 2) as (figure, (loss, accuracy)):
        for cell, history in curves.groupby("cell", sort=False):
            for axes, name in ((loss, "loss"), (accuracy, "binary_accuracy")):
                (line,) = axes.plot(history["epoch"], history[f"val_{name}"], label=str(cell))
                axes.plot(history["epoch"], history[name], linestyle=":", color=line.get_color())
        for axes in (loss, accuracy):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.set_ylabel("binary cross-entropy (nats)")
        loss.set_title("Loss: solid on valid, dotted on train")
        accuracy.set_ylabel("accuracy")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1))
        accuracy.set_title("Accuracy: the room between the two is overfitting")
        figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def pair_sheet(pairs: list[tuple[Bools, str, str, str]], title: str, path: Path) -> None:
    """Pairs of pictures: each is (images [2, h, w, 3], what they share, a caption for either)."""
    columns = 4
    rows = max(1, -(-len(pairs) // columns))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, rows * 1.65 + 0.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=11)
        for place, (images, share, *captions) in enumerate(pairs):
            for side in range(2):
                axes = figure.add_subplot(rows, columns * 2, place * 2 + side + 1)
                axes.imshow(images[side])
                axes.set_axis_off()
                axes.set_title(captions[side], fontsize=7, loc="center")
                if side == 0:
                    axes.text(1.0, -0.04, share, transform=axes.transAxes, ha="center", va="top", fontsize=7)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})


def split_differences(table: pd.DataFrame, differences: dict[str, dict[str, float]], path: Path) -> None:
    """Histograms of brightness and contrast in train and valid, and every measure's standardized difference."""
    largest = max(differences, key=lambda name: abs(differences[name]["standardized"]))
    with _figure(path, 10, 3.6, 3) as (figure, (brightness, contrast, bars)):
        for axes, name in ((brightness, "brightness"), (contrast, "contrast")):
            bins = np.linspace(0, max(1.0, float(table[name].max())), 40)
            for split, colour in (("train", TRAIN), ("valid", VALID)):
                values = table.loc[table["split"] == split, name]
                axes.hist(values, bins, density=True, histtype="step", color=colour, label=split)
            axes.set_xlabel(f"{name} of a picture (0 to 255)")
            axes.set_yticks([])
        brightness.legend()
        names = list(differences)
        values = [differences[name]["standardized"] for name in names]
        bars.barh([name.replace("_", " ") for name in names], values, color=VALID)
        bars.axvline(0, color="#333333", linewidth=1)
        reach = max(0.2, *(abs(value) for value in values)) * 1.1
        bars.set_xlim(-reach, reach)
        bars.set_xlabel("valid minus train, in standard deviations")
        figure.suptitle(
            f"Train and valid differ most in {largest.replace('_', ' ')}: "
            f"{differences[largest]['standardized']:+.2f} standard deviations (0.2 would be small)",
            x=0.01,
            ha="left",
            weight="bold",
            fontsize=11,
        )
