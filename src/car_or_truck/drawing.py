"""How the project draws, with matplotlib. A figure's title states its message; its axes have labels and units.

The ending of a path decides what is written: .png or .svg.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

TRAIN, VALID = "#0072b2", "#d55e00"  # Okabe and Ito's palette, safe for colour-blind readers
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

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]


@contextmanager
def canvas(
    path: Path, width: float, height: float, columns: int = 1, rows: int = 1, title: str = ""
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a grid of axes, in a list row by row; saved to `path` at the end."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
        yield figure, list(figure.subplots(rows, columns, squeeze=False).flat)
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` without time or program name, so that the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":  # for a page with its own background and fonts
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, metadata={"Software": None})


def png_base64(pixels: Pixels) -> str:
    """An image [h, w, 3] as a PNG file in base64."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
