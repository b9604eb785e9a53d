"""How the project draws, with matplotlib, and the pictures of its data.

A figure's title states its message, its axes have labels and units. Nothing here decides a number.
A path's ending says what is written: .png or .svg.
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
from numpy.typing import NDArray

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
    "svg.fonttype": "none",
    "svg.hashsalt": "car-or-truck",
    "axes.prop_cycle": mpl.cycler(
        color=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#666666", "#8c3b00"]
    ),
}

Bools = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]


@contextmanager
def canvas(path: Path, width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with `columns` axes side by side, saved to `path` at the end."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
        yield figure, axes
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write `figure`, without the time or the program's name: the same figure is the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":  # for a page: its own background and its own letters
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, metadata={"Software": None})


def contact_sheet(rows: dict[str, Bools], title: str, path: Path, columns: int = 12) -> None:
    """Small pictures, class by class: `rows` maps a caption to images [n, h, w, 3]."""
    strips = {caption: tiles(images, columns) for caption, images in rows.items()}
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
        save(figure, path)


def tiles(images: Bools, columns: int) -> Bools:
    """[n, h, w, 3] as one picture, `columns` wide, on white."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows, columns, height + 4, width + 4, 3), 255, np.uint8)
    for place, image in enumerate(images):
        canvas[place // columns, place % columns, 2:-2, 2:-2] = image
    return canvas.swapaxes(1, 2).reshape(rows * (height + 4), columns * (width + 4), 3)


def picture_sheet(images: Bools, captions: Sequence[str], title: str, path: Path, columns: int = 8) -> None:
    """Pictures [n, h, w, 3], each under a caption of two lines."""
    rows = max(1, -(-len(images) // columns))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(columns * 1.25, rows * 1.55 + 0.5), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            axes = figure.add_subplot(rows, columns, place + 1)
            axes.imshow(image)
            axes.set_axis_off()
            axes.set_title(caption, fontsize=7.5, loc="center")
        save(figure, path)


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
        save(figure, path)


def split_differences(table: pd.DataFrame, differences: dict[str, dict[str, float]], path: Path) -> None:
    """Histograms of brightness and contrast in train and valid, and every measure's standardized difference."""
    largest = max(differences, key=lambda name: abs(differences[name]["standardized"]))
    with canvas(path, 10, 3.6, 3) as (sheet, (brightness, contrast, bars)):
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
        sheet.suptitle(
            f"Train and valid differ most in {largest.replace('_', ' ')}: "
            f"{differences[largest]['standardized']:+.2f} standard deviations (0.2 would be small)",
            x=0.01,
            ha="left",
            weight="bold",
            fontsize=11,
        )
