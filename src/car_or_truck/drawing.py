"""How the project draws, with matplotlib. A figure's title states its message; its axes have labels and units.

The ending of a path decides what is written: .png or .svg.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's palette, safe for colour-blind readers; light colours are darkened until they stand out on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#c0689a", "#3d9bd6", "#c58600", "#666666", "#8c3b00")
TRAIN, VALID = PALETTE[:2]
MODEL = PALETTE[0]  # of a model that is alone in its figure; the report puts the colour of its variant there
STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.dpi": 140,
    "font.size": 10,
    "text.parse_math": False,  # a file, a class or a variant may be called anything
    "svg.fonttype": "none",
    "svg.hashsalt": "car-or-truck",
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
}

Pixels = NDArray[np.uint8]


def variant_colours(variants: Sequence[str]) -> dict[str, str]:
    """The colour of each variant on every surface; `variants` in the order of params.yaml.

    A variant added at the end changes no other colour. After eight, the colours repeat.
    """
    return dict(zip(dict.fromkeys(variants), cycle(PALETTE), strict=False))


@contextmanager
def canvas(
    path: Path, width: float, height: float, columns: int = 1, rows: int = 1, title: str = ""
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a grid of axes, in a list row by row; saved to `path` at the end."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        yield figure, grid
        if len(grid) == 1:  # its title may be as wide as the figure
            title = title or grid[0].get_title(loc="left")
            grid[0].set_title("")
        if title:
            figure.suptitle(_wrapped(title, width), x=0.01, ha="left")
        save(figure, path)


def _wrapped(title: str, width: float) -> str:
    return "\n".join(fill(line, round(10 * width), break_on_hyphens=False) for line in title.splitlines())


class Tile(NamedTuple):
    """A place for a square image and its caption on a contact sheet."""

    sheet: Axes  # in inches from its upper left corner
    left: float
    top: float  # of the image, below its caption
    side: float

    def show(self, image: NDArray[Any], **look: Any) -> None:
        """Draw an image [h, w] or [h, w, 3] here, over those before."""
        right, bottom = self.left + self.side, self.top + self.side
        self.sheet.imshow(image, extent=(self.left, right, bottom, self.top), aspect="auto", **look)

    def caption(self, text: str, columns: int = 1, **look: Any) -> None:
        """Write above the image, and no wider than it and those to its right: in smaller letters if need be."""
        words = self.sheet.text(self.left, self.top - 0.04, text, va="bottom", **{"fontsize": 8, **look})
        with _any_script():
            width = words.get_window_extent().width / self.sheet.figure.dpi
        words.set_fontsize(words.get_fontsize() * min(1, columns * self.side / width))


@contextmanager
def contact_sheet(path: Path, columns: int, rows: int, title: str, lines: int = 2) -> Iterator[list[Tile]]:
    """Tiles row by row, with room for so many lines above each; saved to `path` at the end.

    On a `canvas` each image would have axes of its own, which take ten times as long as the images.
    """
    width, gap = 10.0, 0.1
    title, side = _wrapped(title, width), width / columns - gap
    head, row_height = 0.15 + 0.18 * len(title.splitlines()), 0.13 * lines + 0.04 + side + gap
    height = head + rows * row_height
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        sheet = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        sheet.set_axis_off()
        yield [
            Tile(sheet, gap / 2 + column * (side + gap), head + (row + 1) * row_height - side - gap, side)
            for row in range(rows)
            for column in range(columns)
        ]
        figure.suptitle(title, x=gap / 2 / width, y=1 - 0.08 / height, ha="left", va="top")
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` without time or program name, so that the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    look: dict[str, Any] = {"metadata": {"Software": None}}
    if path.suffix == ".svg":  # for a page with its own background and fonts
        title = figure.get_suptitle() or next((axes.get_title(loc="left") for axes in figure.axes), "")
        look = {"transparent": True, "metadata": {"Title": " ".join(title.split()), "Date": None, "Creator": None}}
    with _any_script():
        figure.savefig(path, **look)


@contextmanager
def _any_script() -> Iterator[None]:
    """Names may be in any script: what glyphs the font lacks is nobody's fault."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
