"""The figures that show a model from inside: its architecture, feature maps, and where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from car_or_truck import drawing, files
from car_or_truck.evaluate import inspection
from car_or_truck.evaluate.figures import Predictions, short
from car_or_truck.evaluate.inspection import Maps, Step
from car_or_truck.train.recipe import THRESHOLD

Floats = NDArray[np.floating[Any]]
COLOURS = {"conv": "#56b4e9", "pool": "#e69f00", "dense": "#009e73", "base": "#cc79a7", "other": "#bbbbbb"}


def draw(net: Any, valid: Predictions, folder: Path) -> None:
    """All figures of this file, and the summary that Keras prints, into `folder`."""
    lines: list[str] = []
    net.summary(print_fn=lambda line, **_: lines.append(line))
    files.write_text(folder / "summary.txt", "\n".join(lines) + "\n")
    architecture(inspection.steps(net), inspection.multiply_adds(net), valid.title, folder / "architecture.png")

    confidence = np.where(valid.labels == 1, valid.probability, 1 - valid.probability)  # in the true class
    order = np.argsort(confidence, kind="stable")
    image = valid.images[order[-1]].astype(np.float32) / 255
    blocks = inspection.feature_maps(net, image)
    if blocks:
        feature_maps(image, blocks, valid.title, folder / "feature_maps.png")

    rows = {}
    for caption, ranked in (("right", order[::-1]), ("wrong", order)):
        fitting = ranked[(confidence[ranked] > THRESHOLD) == (caption == "right")]
        chosen = np.concatenate([fitting[valid.labels[fitting] == label][:4] for label in (0, 1)])
        if len(chosen):
            images = valid.images[chosen].astype(np.float32) / 255
            captions = [valid.caption(place) for place in chosen]
            rows[f"{caption}:"] = (images, inspection.grad_cam(net, images), captions)
    grad_cam(rows, valid.title, folder / "grad_cam.png")


def architecture(steps: Sequence[Step], multiply_adds: int, title: str, path: Path) -> None:
    """The layers from left to right: a slab's height shows the side of its maps, its width the channels."""
    tallest, total = steps[0].shape[0], sum(step.parameters for step in steps)
    with drawing.canvas(path, max(7.0, 0.92 * len(steps)), 3.6) as (figure, (axes,)):
        axes.set_axis_off()
        for place, step in enumerate(steps):
            side, channels = (step.shape[0], step.shape[-1]) if len(step.shape) == 3 else (step.shape[0] ** 0.5, 1)
            height = 0.12 + 0.88 * min(1, side / tallest) ** 0.5
            width = 0.12 + 0.1 * np.log2(1 + channels)
            left, bottom = place - width / 2, (1 - height) / 2
            axes.add_patch(Rectangle((left, bottom), width, height, facecolor=COLOURS[_kind(step)], edgecolor="white"))
            axes.text(place, bottom + height + 0.03, step.label, ha="center", va="bottom", fontsize=7)
            sizes = "x".join(map(str, step.shape)) + (f"\n{step.parameters:,}" if step.parameters else "")
            axes.text(place, bottom - 0.03, sizes, ha="center", va="top", fontsize=7)
        message = f"{title}: {total:,} parameters, {multiply_adds / 1e6:,.0f} million multiply-adds an image"
        axes.set(xlim=(-0.7, len(steps) - 0.3), ylim=(-0.22, 1.22), title=message)
        present = {_kind(step) for step in steps} - {"other"}
        patches = [Patch(color=colour, label=kind) for kind, colour in COLOURS.items() if kind in present]
        figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=8)


def _kind(step: Step) -> str:
    if step.kind in ("Functional", "Sequential", "Model"):
        return "base"
    return next((kind for kind in COLOURS if kind in step.kind.lower()), "other")


def feature_maps(image: Floats, blocks: Sequence[Maps], title: str, path: Path, channels: int = 8) -> None:
    """One image through the first blocks: filter, detect, condense; the most active channel, and others unlike it."""
    rows = [
        (name, maps, block)
        for block in blocks
        for name, maps in (("filter", block.filtered), ("detect", block.detected), ("condense", block.condensed))
        if maps is not None
    ]
    size, columns = (1.12 * (channels + 1), 1.2 * len(rows) + 0.5), channels + 1
    with drawing.canvas(path, *size, columns, len(rows), f"{title}: one image through the first blocks") as (_, grid):
        for axes in grid:
            axes.set_axis_off()
        grid[0].imshow(image)
        for row, (name, maps, block) in enumerate(rows):
            first, *others = grid[row * columns : (row + 1) * columns]
            first.set_title(f"{block.layer}: {name}", fontsize=7, loc="left")
            for axes, channel in zip(others, _various(block.detected, channels), strict=False):
                reach = np.abs(block.filtered[..., channel]).max() or 1.0
                look = {"cmap": "RdBu_r", "vmin": -reach} if name == "filter" else {"cmap": "magma", "vmin": 0}
                axes.imshow(maps[..., channel], vmax=reach, **look)


def _various(maps: Floats, count: int) -> list[int]:
    """The most active channel, then those least correlated with the ones chosen before."""
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    spread = flat.std(axis=0)
    ranked = np.argsort(-spread, kind="stable")
    active = [int(channel) for channel in ranked if spread[channel] > 0.05 * spread.max()]
    if not active:
        return list(range(min(count, maps.shape[-1])))
    likeness = np.abs(np.atleast_2d(np.corrcoef(flat[:, active], rowvar=False)))
    chosen = [0]
    while len(chosen) < min(count, len(active)):
        nearest = likeness[chosen].max(axis=0)
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
    return [active[place] for place in chosen]


def grad_cam(rows: dict[str, tuple[Floats, Floats, list[str]]], title: str, path: Path, columns: int = 8) -> None:
    """Images with the regions lit that drove the prediction: `rows` maps a caption to (images, maps, captions)."""
    message = f"{title}: where it looks (Grad-CAM of the predicted class)"
    with drawing.canvas(path, 1.25 * columns, 1.75 * len(rows) + 0.4, columns, len(rows), message) as (_, grid):
        for axes in grid:
            axes.set_axis_off()
        for row, (caption, pictures) in enumerate(rows.items()):
            for place, (image, heat, answer) in enumerate(zip(*pictures, strict=True)):
                axes = grid[row * columns + place]
                _light(axes, image, heat)
                axes.set_title(f"{'' if place else caption}\n{answer}", fontsize=8, loc="left")


def explained(images: Floats, maps: Floats, names: Sequence[str], answers: Sequence[str], path: Path) -> None:
    """Each image [h, w, 3], and beside it where the model looks (Grad-CAM of the predicted class)."""
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    with drawing.canvas(path, 4.4 * columns, 2.6 * rows + 0.3, 2 * columns, rows) as (_, grid):
        for axes in grid:
            axes.set_axis_off()
        for plain, lit, image, heat, name, answer in zip(
            grid[::2], grid[1::2], images, maps, names, answers, strict=False
        ):
            plain.imshow(image)
            plain.set_title(short(name, 24), fontsize=8, loc="left")
            _light(lit, image, heat)
            lit.set_title(answer, fontsize=8, loc="left")


def _light(axes: Axes, image: Floats, heat: Floats) -> None:
    height, width = image.shape[:2]
    axes.imshow(image)
    axes.imshow(heat, cmap="inferno", alpha=0.45, extent=(0, width, height, 0), interpolation="bilinear")
