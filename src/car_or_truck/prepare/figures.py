"""The audit's figures: contact sheets, near-duplicates, outliers, and how the splits differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from car_or_truck import drawing
from car_or_truck.drawing import Pixels
from car_or_truck.fetch.folders import split_name
from car_or_truck.prepare.audit import NEAR

COLUMNS = 12  # images in a row
MOST_PAIRS = 21  # near-duplicates that are drawn
SMALL = 0.2  # a standardized difference. Cohen (1988)


def draw(report: dict[str, Any], kept_images: pd.DataFrame, prepared: Path, folder: Path) -> None:
    """All figures of an audit, into `folder`: SPLIT.png, near_duplicates.png, outliers.png, splits.svg."""
    splits = list(report["counts"])
    arrays = {split: np.load(prepared / split / "images.npy", mmap_mode="r") for split in splits}
    tables = {split: table.reset_index(drop=True) for split, table in kept_images.groupby("split", sort=False)}
    row_of = {name: (split, row) for split, table in tables.items() for row, name in enumerate(table["name"])}

    def pictures(names: list[str]) -> Pixels:
        return np.stack([arrays[split][row] for split, row in (row_of[name] for name in names)])

    for split in splits:
        rows = {}
        for label, name in enumerate(report["classes"]):
            of_class = np.flatnonzero(tables[split]["label"] == label)
            sample = of_class[np.linspace(0, of_class.size - 1, min(24, of_class.size)).astype(int)]
            rows[f"{name} ({of_class.size:,})"] = arrays[split][sample]
        counts = report["counts"][split]
        shares = ", ".join(f"{count / sum(counts.values()):.0%} {name}" for name, count in counts.items())
        kind = "synthetic" if report["stand_in"] else "real"
        group_sheet(rows, f"A sample of the {kind} {split_name(split)} images: {shares}", folder / f"{split}.png")

    pairs = sorted(report["near_duplicates"], key=lambda pair: pair[2])
    count = f"{len(pairs) or 'No'} near-duplicate pair{'s' * (len(pairs) != 1)}"
    pair_sheet(
        [(pictures([first, second]), first, second, bits) for first, second, bits in pairs[:MOST_PAIRS]],
        f"{count}: perceptual hashes that differ in at most {NEAR} of 64 bits",
        folder / "near_duplicates.png",
    )
    by_brightness = kept_images.sort_values("brightness")["name"].tolist()
    by_contrast = kept_images.sort_values("contrast")["name"].tolist()
    group_sheet(
        {
            f"Darkest ({len(report['dark'])} are very dark)": pictures(by_brightness[:12]),
            f"Brightest ({len(report['bright'])} are very bright)": pictures(by_brightness[::-1][:12]),
            f"Lowest contrast ({len(report['constant'])} are blank)": pictures(by_contrast[:12]),
        },
        "The extremes: darkest, brightest, lowest contrast",
        folder / "outliers.png",
    )
    split_differences(kept_images, report["splits"], folder / "splits.svg")


def _short(name: str) -> str:
    split, _, rest = name.partition("/")
    return f"{split}\n{rest}" if len(rest) < 22 else f"{split}\n…{rest[-20:]}"


def group_sheet(groups: dict[str, Pixels], title: str, path: Path) -> None:
    """Images of several groups, each from a new row on: `groups` maps a caption to images [n, h, w, 3]."""
    rows = {caption: -(-len(images) // COLUMNS) for caption, images in groups.items()}
    with drawing.contact_sheet(path, COLUMNS, sum(rows.values()), title, lines=1) as tiles:
        first = 0
        for caption, images in groups.items():
            tiles[first].caption(caption, COLUMNS, fontsize=10, weight="bold")
            for tile, image in zip(tiles[first:], images, strict=False):
                tile.show(image)
            first += rows[caption] * COLUMNS


def pair_sheet(pairs: list[tuple[Pixels, str, str, int]], title: str, path: Path) -> None:
    """Pairs of images, each (images [2, h, w, 3], the names of both, the bits by which they differ)."""
    columns = 8  # three pairs, with a column between them
    with drawing.contact_sheet(path, columns, max(1, -(-len(pairs) // 3)), title, lines=3) as tiles:
        for place, (images, first, second, bits) in enumerate(pairs):
            start = place // 3 * columns + place % 3 * 3
            captions = f"{bits} bits differ\n{_short(first)}", _short(second)
            for tile, image, caption in zip(tiles[start:], images, captions, strict=False):
                tile.show(image)
                tile.caption(caption, fontsize=7)


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
