"""The audit's figures: contact sheets, near-duplicates, outliers, and how the splits differ."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from car_or_truck import drawing
from car_or_truck.drawing import Pixels
from car_or_truck.fetch.folders import split_name
from car_or_truck.prepare.audit import NEAR

THUMBNAIL = 128  # pixels a side
SMALL = 0.2  # a standardized difference. Cohen (1988)


def draw(report: dict[str, Any], kept: pd.DataFrame, prepared: Path, folder: Path) -> None:
    """All figures of an audit, into `folder`: SPLIT.png, near_duplicates.png, outliers.png, splits.svg."""
    splits = list(report["counts"])
    arrays = {split: np.load(prepared / split / "images.npy", mmap_mode="r") for split in splits}
    tables = {split: table.reset_index(drop=True) for split, table in kept.groupby("split", sort=False)}
    row_of = {name: (split, row) for split, table in tables.items() for row, name in enumerate(table["name"])}

    def pictures(names: list[str]) -> Pixels:
        return np.stack([arrays[split][row] for split, row in (row_of[name] for name in names)])

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names may be in any script
        for split in splits:
            rows = {}
            for label, name in enumerate(report["classes"]):
                of_class = np.flatnonzero(tables[split]["label"] == label)
                sample = of_class[np.linspace(0, of_class.size - 1, min(24, of_class.size)).astype(int)]
                rows[f"{name} ({of_class.size})"] = arrays[split][sample]
            counts = report["counts"][split]
            shares = ", ".join(f"{count / sum(counts.values()):.0%} {name}" for name, count in counts.items())
            kind = "synthetic" if report["stand_in"] else "real"
            contact_sheet(rows, f"A sample of the {kind} {split_name(split)} images: {shares}", folder / f"{split}.png")

        pairs = sorted(report["near_duplicates"], key=lambda pair: pair[2])
        pair_sheet(
            [
                (pictures([first, second]), f"{bits} bits differ", _short(first), _short(second))
                for first, second, bits in pairs
            ],
            f"{len(pairs) or 'No'} near-duplicate pairs: perceptual hashes that differ in at most {NEAR} of 64 bits",
            folder / "near_duplicates.png",
        )
        by_brightness = kept.sort_values("brightness")["name"].tolist()
        by_contrast = kept.sort_values("contrast")["name"].tolist()
        contact_sheet(
            {
                f"Darkest ({len(report['dark'])} are very dark)": pictures(by_brightness[:12]),
                f"Brightest ({len(report['bright'])} are very bright)": pictures(by_brightness[::-1][:12]),
                f"Lowest contrast ({len(report['constant'])} are blank)": pictures(by_contrast[:12]),
            },
            "The extremes: darkest, brightest, lowest contrast",
            folder / "outliers.png",
        )
        split_differences(kept, report["splits"], folder / "splits.svg")


def _short(name: str) -> str:
    split, _, rest = name.partition("/")
    return f"{split}\n{rest}" if len(rest) < 22 else f"{split}\n…{rest[-20:]}"


def contact_sheet(rows: dict[str, Pixels], title: str, path: Path, columns: int = 12) -> None:
    """Thumbnails under a caption for each group: `rows` maps a caption to images [n, h, w, 3]."""
    strips = {caption: tiles(images, columns) for caption, images in rows.items()}
    heights = [strip.shape[0] for strip in strips.values()]
    width = max(strip.shape[1] for strip in strips.values())
    with mpl.rc_context(drawing.STYLE):
        size = (10, 10 * sum(heights) / width + 0.4 + 0.3 * len(strips))
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        for axes, (caption, strip) in zip(
            figure.subplots(len(strips), 1, squeeze=False, height_ratios=heights)[:, 0], strips.items(), strict=True
        ):
            axes.imshow(strip)
            axes.set_axis_off()
            axes.set_title(caption)
        drawing.save(figure, path)


def tiles(images: Pixels, columns: int) -> Pixels:
    """Images [n, h, w, 3] as one, `columns` wide, on white; large ones are thinned out to some THUMBNAIL pixels."""
    step = max(1, images.shape[1] // THUMBNAIL)
    images = images[:, ::step, ::step]
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows, columns, height + 4, width + 4, 3), 255, np.uint8)
    for place, image in enumerate(images):
        canvas[place // columns, place % columns, 2:-2, 2:-2] = image
    return canvas.swapaxes(1, 2).reshape(rows * (height + 4), columns * (width + 4), 3)


def pair_sheet(pairs: list[tuple[Pixels, str, str, str]], title: str, path: Path, most: int = 20) -> None:
    """The first `most` pairs of images: each is (images [2, h, w, 3], the caption below, and one above each)."""
    columns = 4
    rows = max(1, -(-min(len(pairs), most) // columns))
    with mpl.rc_context(drawing.STYLE):
        figure = Figure(figsize=(10, rows * 1.65 + 0.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        for place, (images, below, *above) in enumerate(pairs[:most]):
            axes = figure.add_subplot(rows, columns, place + 1)
            axes.imshow(tiles(images, 2))
            axes.set_axis_off()
            text = {"transform": axes.transAxes, "ha": "center", "fontsize": 7}
            axes.text(0.5, -0.03, below, va="top", **text)
            for x, caption in zip((0.25, 0.75), above, strict=True):
                axes.text(x, 1.03, caption, va="bottom", **text)
        drawing.save(figure, path)


def split_differences(table: pd.DataFrame, differences: dict[str, dict[str, float]], path: Path) -> None:
    """Histograms of brightness and contrast in train and valid, and the standardized difference of every measure."""
    terms = {"content": "picture inside its bars", "second_class_share": "share of the second class"}
    ranked = sorted(differences, key=lambda name: abs(differences[name]["standardized"]))
    names = [terms.get(name, name) for name in ranked]
    values = [differences[name]["standardized"] for name in ranked]
    title = f"Train and validation differ most in {names[-1]}: by {values[-1]:+.2f} standard deviations"
    if abs(values[-1]) < SMALL:
        title = f"Train and validation hardly differ: {names[-1]} most, by {values[-1]:+.2f} standard deviations"
    with drawing.canvas(path, 11, 3.4, 3, title=title) as (_, (brightness, contrast, bars)):
        for axes, name in ((brightness, "brightness"), (contrast, "contrast")):
            bins = np.linspace(0, max(1.0, float(table[name].max())), 40)
            for split, colour in (("train", drawing.TRAIN), ("valid", drawing.VALID)):
                values_of = table.loc[table["split"] == split, name]
                share = np.full(len(values_of), 1 / max(1, len(values_of)))
                axes.hist(values_of, bins, weights=share, histtype="step", color=colour, label=split_name(split))
            axes.set_xlabel(f"{name} of an image (0 to 255)")
            axes.set_ylabel("share of the images")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        brightness.legend()
        bars.barh(names, values, color="#666666")
        bars.axvline(0, color="#888888", linewidth=1)
        reach = max(SMALL, *(abs(value) for value in values)) * 1.1
        bars.set(xlim=(-reach, reach), xlabel=f"validation minus train,\nstandard deviations ({SMALL} is small)")
