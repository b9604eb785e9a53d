"""The figures that show a model from inside: its architecture, feature maps, and where it looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Patch, Rectangle

from car_or_truck import drawing, files
from car_or_truck.drawing import Pixels
from car_or_truck.evaluate import inspection
from car_or_truck.evaluate.figures import Predictions, looks_sentence, short
from car_or_truck.evaluate.inspection import Looks, Maps, Step
from car_or_truck.evaluate.reliability import Floats
from car_or_truck.train.recipe import THRESHOLD

COLOURS = {"conv": "#56b4e9", "pool": "#e69f00", "dense": "#009e73", "base": "#cc79a7", "other": "#bbbbbb"}
SHEET = {"savefig.transparent": True, "text.color": "#7b7b7b"}  # of pictures, on a light page or a dark one
HEAT: dict[str, Any] = {"cmap": "inferno", "alpha": 0.45, "interpolation": "bilinear"}  # over an image
ACROSS = 8  # images in a row
SAMPLE = 32  # validation images of which is measured where the model looks


def draw(net: Any, valid: Predictions, folder: Path) -> Looks:
    """All figures of this file, and the summary that Keras prints, into `folder`; returns where the model looks."""
    files.write_text(folder / "summary.txt", inspection.summary(net))
    steps, multiply_adds = inspection.steps(net), inspection.multiply_adds(net)
    for suffix in (".png", ".svg"):  # for MLflow, and for the report
        architecture(steps, multiply_adds, valid.title, folder / f"architecture{suffix}")

    confidence = np.where(valid.labels == 1, valid.probability, 1 - valid.probability)  # in the true class
    order = np.argsort(confidence, kind="stable")
    image = valid.images[order[-1]].astype(np.float32) / 255
    blocks = inspection.feature_maps(net, image)
    if blocks:
        feature_maps(image, blocks, valid.title, folder / "feature_maps.png")

    right = (valid.probability > THRESHOLD) == (valid.labels == 1)
    rows = {}
    for caption, ranked in (("correct", order[::-1]), ("wrong", order)):
        fitting = ranked[right[ranked] == (caption == "correct")]
        chosen = np.concatenate([fitting[valid.labels[fitting] == label][:4] for label in (0, 1)])
        if len(chosen):
            images = valid.images[chosen].astype(np.float32) / 255
            captions = [valid.caption(place) for place in chosen]
            rows[f"{caption}:"] = (images, inspection.grad_cam(net, images), captions)
    sample = valid.images[np.linspace(0, len(valid.images) - 1, SAMPLE).astype(int)]
    looks = inspection.heat_on_bars(net, sample.astype(np.float32) / 255)
    grad_cam(rows, f"{valid.title} {looks_sentence(*looks)}", folder / "grad_cam.png")
    return looks


def architecture(steps: Sequence[Step], multiply_adds: int, title: str, path: Path) -> None:
    """The layers from left to right: a slab's height shows the side of its maps, its width the channels."""
    total, steps = sum(step.parameters for step in steps), merged(steps)
    tallest = steps[0].shape[0]
    with drawing.canvas(path, max(11.0, 0.92 * len(steps)), 3.6) as (figure, (axes,)):
        axes.set_axis_off()
        for place, step in enumerate(steps):
            side, channels = (step.shape[0], step.shape[-1]) if len(step.shape) == 3 else (step.shape[0] ** 0.5, 1)
            height = 0.12 + 0.88 * min(1, side / tallest) ** 0.5
            width = 0.12 + 0.1 * np.log2(1 + channels)
            left, bottom = place - width / 2, (1 - height) / 2
            axes.add_patch(Rectangle((left, bottom), width, height, facecolor=COLOURS[_kind(step)], edgecolor="none"))
            axes.text(place, bottom + height + 0.03, step.label, ha="center", va="bottom", fontsize=8)
            axes.text(place, bottom - 0.03, " x ".join(map(str, step.shape)), ha="center", va="top", fontsize=8)
            if step.parameters:
                count = f"{step.parameters:,}\nparameters"
                axes.text(place, bottom - 0.13, count, ha="center", va="top", fontsize=8, color="#808080")
        message = f"{title}: {total:,} parameters, {multiply_adds / 1e6:,.0f} million multiply-adds an image"
        axes.set(xlim=(-0.7, len(steps) - 0.3), ylim=(-0.35, 1.3), title=message)
        kinds = dict.fromkeys(_kind(step) for step in steps[1:])
        patches = [Patch(color=COLOURS[kind], label=kind) for kind in kinds]
        figure.legend(handles=patches, loc="outside lower center", ncols=5, fontsize=9)


def merged(steps: Sequence[Step]) -> list[Step]:
    """The steps, with a convolution, its batch norm and its activation as one."""
    drawn: list[Step] = []
    for step in steps:
        if step.kind in ("BatchNormalization", "Activation") and drawn and "Conv" in drawn[-1].kind:
            label = f"{drawn[-1].label}\n{step.label.replace(chr(10), ' ')}"
            drawn[-1] = drawn[-1]._replace(label=label, parameters=drawn[-1].parameters + step.parameters)
        else:
            drawn.append(step)
    return drawn


def _kind(step: Step) -> str:
    if step.kind in ("Functional", "Sequential", "Model"):
        return "base"
    return next((kind for kind in COLOURS if kind in step.kind.lower()), "other")


def feature_maps(image: Floats, blocks: Sequence[Maps], title: str, path: Path) -> None:
    """One image through the first blocks: filter, detect, condense; the most active channel, and others unlike it."""
    rows = [
        (f"block {number}: {name}", maps, block.detected)
        for number, block in enumerate(blocks, 1)
        for name, maps in (("filter", block.filtered), ("detect", block.detected), ("condense", block.condensed))
        if maps is not None
    ]
    message = f"{title}: one image through the first blocks (filter: red is positive, blue negative)"
    columns = ACROSS + 1  # the first holds the image
    with mpl.rc_context(SHEET), drawing.contact_sheet(path, columns, len(rows), message, lines=1) as tiles:
        tiles[0].show(image)
        for row, (name, maps, detected) in enumerate(rows):
            first, *others = tiles[row * columns : (row + 1) * columns]
            first.caption(name)
            for tile, channel in zip(others, _various(detected, ACROSS), strict=False):
                channel_map = maps[..., channel]
                # A few extremes, as at the borders, would hide the rest.
                reach = np.percentile(np.abs(channel_map), 99) or 1.0
                look = {"cmap": "RdBu_r", "vmin": -reach} if "filter" in name else {"cmap": "magma", "vmin": 0}
                tile.show(channel_map, vmax=reach, **look)


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


def grad_cam(rows: dict[str, tuple[Floats, Floats, list[str]]], title: str, path: Path) -> None:
    """Images with the regions lit that drove the prediction: `rows` maps a caption to (images, maps, captions)."""
    with mpl.rc_context(SHEET), drawing.contact_sheet(path, ACROSS, len(rows), title, lines=3) as tiles:
        for row, (caption, pictures) in enumerate(rows.items()):
            for place, (image, heat, answer) in enumerate(zip(*pictures, strict=True)):
                tile = tiles[row * ACROSS + place]
                tile.show(image)
                tile.show(heat, **HEAT)
                tile.caption(f"{'' if place else caption}\n{answer.replace(' predicted', chr(10) + 'as')}")


def explained(images: Pixels, maps: Floats, names: Sequence[str], answers: Sequence[str], path: Path) -> None:
    """Each of the images [n, h, w, 3], and beside it where the model looks.

    `maps` [n, h, w] in 0..1 are the Grad-CAM of the predicted class.
    """
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    with drawing.canvas(path, 4.4 * columns, 2.6 * rows + 0.3, 2 * columns, rows) as (_, grid):
        for axes in grid:
            axes.set_axis_off()
        for plain, lit, image, heat, name, answer in zip(
            grid[::2], grid[1::2], images, maps, names, answers, strict=False
        ):
            plain.imshow(image)
            plain.set_title(short(name, 24), fontsize=8, weight="normal")
            height, width = image.shape[:2]
            lit.imshow(image)
            lit.imshow(heat, extent=(0, width, height, 0), **HEAT)
            lit.set_title(answer, fontsize=8, weight="normal")
