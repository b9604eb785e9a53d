"""Pictures of a net's inside: its architecture, kernels, feature maps, and where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from car_or_truck.drawing import STYLE
from car_or_truck.evaluate.inspection import Maps, Step

Floats = NDArray[np.floating[Any]]
COLOURS = {"conv": "#56b4e9", "pool": "#e69f00", "dense": "#009e73", "base": "#cc79a7", "other": "#bbbbbb"}


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def architecture(steps: Sequence[Step], multiply_adds: int, title: str, path: Path) -> None:
    """The net from left to right: a slab a layer, as high as its maps' side and as thick as its channels are many."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.0, 0.92 * len(steps)), 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axis_off()
        tallest = steps[0].shape[0]
        for place, step in enumerate(steps):
            side = step.shape[0] if len(step.shape) == 3 else min(tallest, step.shape[0] ** 0.5)
            height = 0.12 + 0.88 * (side / tallest) ** 0.5
            width = 0.12 + 0.1 * np.log2(1 + (step.shape[-1] if len(step.shape) == 3 else 1))
            left, bottom = place - width / 2, (1 - height) / 2
            axes.add_patch(Rectangle((left, bottom), width, height, facecolor=COLOURS[_kind(step)], edgecolor="white"))
            axes.text(place, bottom + height + 0.03, step.label, ha="center", va="bottom", fontsize=7)
            shape = "x".join(map(str, step.shape))
            parameters = f"\n{step.parameters:,}" if step.parameters else ""
            axes.text(place, bottom - 0.03, shape + parameters, ha="center", va="top", fontsize=7)
        axes.set_xlim(-0.7, len(steps) - 0.3)
        axes.set_ylim(-0.22, 1.22)
        total = sum(step.parameters for step in steps)
        axes.set_title(f"{title}: {total:,} parameters, {multiply_adds / 1e6:,.0f} million multiply-adds an image")
        present = {_kind(step) for step in steps} - {"other"}
        figure.legend(
            handles=[Patch(color=COLOURS[kind], label=kind) for kind in COLOURS if kind in present],
            loc="outside lower center",
            ncols=5,
            fontsize=8,
        )
        _save(figure, path)


def _kind(step: Step) -> str:
    if "Conv" in step.kind:
        return "conv"
    if "Pool" in step.kind:
        return "pool"
    if step.kind == "Dense":
        return "dense"
    return "base" if step.kind in ("Functional", "Sequential", "Model") else "other"


def kernels(pictures: Floats, title: str, path: Path) -> None:
    """The first convolution's kernels, in colour, each scaled by itself: grey is zero."""
    columns = min(16, len(pictures))
    rows = -(-len(pictures) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(columns * 0.6, rows * 0.6 + 0.4), layout="constrained")
        figure.suptitle(f"{title}: what the first convolution looks for", x=0.01, ha="left", fontsize=11)
        for place, picture in enumerate(pictures):
            axes = figure.add_subplot(rows, columns, place + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
        _save(figure, path)


def feature_maps(image: Floats, blocks: Sequence[Maps], title: str, path: Path, channels: int = 8) -> None:
    """One picture through the first blocks: filter, detect, condense; the liveliest channel, and others unlike it."""
    rows = [
        (f"{block.layer}: {name}", maps, block)
        for block in blocks
        for name, maps in (("filter", block.filtered), ("detect", block.detected), ("condense", block.condensed))
        if maps is not None
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=((channels + 1) * 1.12, len(rows) * 1.2 + 0.5), layout="constrained")
        figure.suptitle(f"{title}: one picture through the first blocks", x=0.01, ha="left", fontsize=11)
        for row, (name, maps, block) in enumerate(rows):
            chosen = _various(block.detected, channels)
            for place in range(channels + 1):
                axes = figure.add_subplot(len(rows), channels + 1, row * (channels + 1) + place + 1)
                axes.set_axis_off()
                if place == 0:
                    if row == 0:
                        axes.imshow(image)
                    axes.set_title(name, fontsize=7, loc="left")
                elif place <= len(chosen):
                    channel = maps[..., chosen[place - 1]]
                    reach = np.abs(block.filtered[..., chosen[place - 1]]).max() or 1.0
                    signed = name.endswith("filter")
                    axes.imshow(channel, cmap="RdBu_r" if signed else "magma", vmin=-reach if signed else 0, vmax=reach)
        _save(figure, path)


def _various(maps: Floats, count: int) -> list[int]:
    """The channel that reacts most, then those that are least like the ones chosen before."""
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    spread = flat.std(axis=0)
    ranked = np.argsort(-spread, kind="stable")
    lively = [int(channel) for channel in ranked if spread[channel] > 0.05 * spread.max()]
    if not lively:
        return list(range(min(count, maps.shape[-1])))
    likeness = np.abs(np.atleast_2d(np.corrcoef(flat[:, lively], rowvar=False)))
    chosen = [0]
    while len(chosen) < min(count, len(lively)):
        nearest = likeness[chosen].max(axis=0)
        nearest[chosen] = np.inf
        chosen.append(int(np.argmin(nearest)))
    return [lively[place] for place in chosen]


def grad_cam(rows: dict[str, tuple[Floats, Floats, list[str]]], title: str, path: Path, columns: int = 8) -> None:
    """Pictures with the parts that drove the answer lit: `rows` maps a caption to (images, maps, answers)."""
    shown = {caption: row for caption, row in rows.items() if len(row[0])}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(columns * 1.25, len(shown) * 1.75 + 0.4), layout="constrained")
        figure.suptitle(f"{title}: where it looks (Grad-CAM of the answer it gives)", x=0.01, ha="left", fontsize=11)
        for row, (caption, (images, maps, answers)) in enumerate(shown.items()):
            for place in range(len(images)):
                axes = figure.add_subplot(len(shown), columns, row * columns + place + 1)
                height, width = images[place].shape[:2]
                axes.imshow(images[place])
                axes.imshow(
                    maps[place], cmap="inferno", alpha=0.45, extent=(0, width, height, 0), interpolation="bilinear"
                )
                axes.set_axis_off()
                axes.set_title((caption + "\n" if place == 0 else "\n") + answers[place], fontsize=8, loc="left")
        _save(figure, path)


def explained(images: Floats, maps: Floats, names: Sequence[str], answers: Sequence[str], path: Path) -> None:
    """Each picture [h, w, 3], and beside it where the net looks (Grad-CAM of the answer it gives)."""
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * columns, 2.6 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for place, (image, name, answer) in enumerate(zip(images, names, answers, strict=True)):
            plain, lit = grid[2 * place : 2 * place + 2]
            height, width = image.shape[:2]
            for axes in (plain, lit):
                axes.imshow(image)
            lit.imshow(maps[place], cmap="inferno", alpha=0.5, extent=(0, width, height, 0), interpolation="bilinear")
            plain.set_title(name if len(name) < 24 else f"...{name[-20:]}", fontsize=8, loc="left")
            lit.set_title(answer, fontsize=8, loc="left")
        _save(figure, path)
