"""The audit's pictures: contact sheets, near-duplicates, outliers, and how the splits differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from car_or_truck import drawing

Pixels = NDArray[np.uint8]


def draw(report: dict[str, Any], kept: pd.DataFrame, prepared: Path, folder: Path) -> None:
    """All figures of an audit, into `folder`: SPLIT.png, near_duplicates.png, outliers.png, splits.png."""
    splits = list(report["counts"])
    arrays = {split: np.load(prepared / split / "images.npy", mmap_mode="r") for split in splits}
    place = {split: table.reset_index(drop=True) for split, table in kept.groupby("split", sort=False)}
    row_of = {name: (split, row) for split, table in place.items() for row, name in enumerate(table["name"])}

    def pictures(names: list[str]) -> Pixels:
        return np.stack([arrays[split][row] for split, row in (row_of[name] for name in names)])

    kind = " (the drawn stand-in)" if report["stand_in"] else ""
    for split in splits:
        rows = {}
        for label, name in enumerate(report["classes"]):
            of_class = np.flatnonzero(place[split]["label"] == label)
            chosen = of_class[np.linspace(0, of_class.size - 1, min(24, of_class.size)).astype(int)]
            rows[f"{name} ({of_class.size})"] = arrays[split][chosen]
        drawing.contact_sheet(rows, f"What the {split} images look like{kind}", folder / f"{split}.png")

    pairs = sorted(report["near_duplicates"], key=lambda pair: pair[2])
    drawing.pair_sheet(
        [
            (pictures([one, other]), f"{distance} bits", _short(one), _short(other))
            for one, other, distance in pairs[:20]
        ],
        f"{len(pairs)} pairs look nearly the same (of 64 bits of perceptual hash, at most 4 differ)",
        folder / "near_duplicates.png",
    )
    by_light = kept.sort_values("brightness")["name"].tolist()
    by_contrast = kept.sort_values("contrast")["name"].tolist()
    drawing.contact_sheet(
        {
            f"darkest ({len(report['dark'])} very dark)": pictures(by_light[:12]),
            f"brightest ({len(report['bright'])} very bright)": pictures(by_light[::-1][:12]),
            f"flattest ({len(report['constant'])} blank)": pictures(by_contrast[:12]),
        },
        "The images at the ends of the scale",
        folder / "outliers.png",
    )
    drawing.split_differences(kept, report["splits"], folder / "splits.png")


def _short(name: str) -> str:
    split, _, rest = name.partition("/")
    return f"{split}\n{rest}" if len(rest) < 22 else f"{split}\n…{rest[-20:]}"
