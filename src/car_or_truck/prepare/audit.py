"""What is wrong, or unusual, in a set of images: pure functions of their checksums, pixels and labels.

Letterbox bars are excluded from every measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

BAR = 24  # a row or column all of whose values (of 255) are below this is a letterbox bar: JPEG blurs black
CONSTANT = 6.0  # an image whose values have a lower standard deviation (of 255) is blank
DARK, BRIGHT = 28.0, 236.0  # mean values (of 255) beyond which an image is hard to see
NEAR = 4  # images whose perceptual hashes (64 bits) differ in at most so many bits look the same


class Measures(NamedTuple):
    """An image without its bars; brightness and colours are means, contrast a standard deviation, 0 to 255."""

    brightness: float
    contrast: float
    red: float
    green: float
    blue: float
    content: float  # the share of the square inside the bars
    left: int  # the box inside the bars, in pixels; right and bottom are just outside of it
    top: int
    right: int
    bottom: int
    phash: int  # imagehash.phash, as 64 bits


def measure(pixels: NDArray[np.uint8]) -> Measures:
    """Measure one image, [size, size, 3]."""
    left, top, right, bottom = content_box(pixels)
    content = pixels[top:bottom, left:right]
    red, green, blue = (float(value) for value in content.mean(axis=(0, 1)))
    return Measures(
        brightness=float(content.mean()),
        contrast=float(content.std()),
        red=red,
        green=green,
        blue=blue,
        content=content.size / pixels.size,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        phash=int(str(imagehash.phash(Image.fromarray(content))), 16),
    )


def content_box(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) inside the letterbox bars; the whole image if nothing in it is brighter than a bar."""
    lit = pixels.max(axis=2) >= BAR
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not rows.size:
        return 0, 0, pixels.shape[1], pixels.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def identical_pairs(names: Iterable[str], checksums: Iterable[str]) -> list[tuple[str, str]]:
    """Each name with the first of those that have its checksum, sorted; all pairs of blank images would be millions."""
    ordered = pd.Series(list(checksums), list(names)).sort_index()
    first = ordered.index.to_series().groupby(ordered.to_numpy()).transform("first")
    return sorted((original, name) for name, original in first.items() if name != original)


def leaked_pairs(everything: pd.DataFrame) -> list[tuple[str, str]]:
    """Each image of train whose bytes are in validation too, with the image there; sorted by name.

    `everything`: name, split and sha256 of each image.
    """
    ordered = everything.sort_values("name")
    train = ordered["split"] == "train"
    elsewhere = ordered[~train].drop_duplicates("sha256").set_index("sha256")["name"]
    return list(ordered[train].set_index("name")["sha256"].map(elsewhere).dropna().items())


def near_pairs(hashes: NDArray[np.uint64]) -> list[tuple[int, int, int]]:
    """(i, j, distance) of i < j whose 64-bit hashes [n] differ in at most NEAR bits.

    Images with the same hash: each is paired with their first, and that one alone with those of other hashes.
    """
    hashes, firsts, group = np.unique(hashes, return_index=True, return_inverse=True)
    pairs = [(int(firsts[place]), i, 0) for i, place in enumerate(group) if firsts[place] != i]
    for i, own in enumerate(hashes):
        distances = np.bitwise_count(hashes[i + 1 :] ^ own)
        for j in np.flatnonzero(distances <= NEAR):
            first, second = sorted((int(firsts[i]), int(firsts[i + 1 + j])))
            pairs.append((first, second, int(distances[j])))
    return sorted(pairs)


def split_differences(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """How far train and valid differ in each measure.

    `train` and `valid` are means; `standardized` is Cohen's d, their difference divided by the pooled
    standard deviation: 0.2 is small, 0.8 large (Cohen 1988).
    """
    differences: dict[str, dict[str, float]] = {}
    for name in ("brightness", "contrast", "red", "green", "blue", "content", "label"):
        train, valid = (table.loc[table["split"] == split, name].astype(float) for split in ("train", "valid"))
        pooled = float(np.sqrt((train.var(ddof=0) + valid.var(ddof=0)) / 2))
        difference = float(valid.mean() - train.mean())
        key = "second_class_share" if name == "label" else name
        differences[key] = {
            "train": round(float(train.mean()), 4),
            "valid": round(float(valid.mean()), 4),
            "standardized": round(difference / pooled, 4) if pooled else 0.0,
        }
    return differences


def audit(
    everything: pd.DataFrame, kept_images: pd.DataFrame, dropped: list[str], undecodable: list[dict[str, str]]
) -> dict[str, Any]:
    """The findings, ready for JSON.

    `everything`: name (with its split), split, label and sha256 of each fetched image, without excluded
    ones. `kept_images`: the images in the arrays, with their width, height, mode and Measures too.
    """
    pairs = identical_pairs(everything["name"], everything["sha256"])
    labels = dict(zip(everything["name"], everything["label"], strict=True))
    patterned = kept_images[kept_images["contrast"] >= CONSTANT]  # blank ones have the same hash, whatever their colour
    near = near_pairs(patterned["phash"].to_numpy(np.uint64))
    checksums, names = patterned["sha256"].tolist(), patterned["name"].tolist()
    sizes = (kept_images["width"].astype(str) + "x" + kept_images["height"].astype(str)).value_counts()
    return {
        "undecodable": undecodable,
        "identical": [list(pair) for pair in pairs],
        "leaks": [list(pair) for pair in leaked_pairs(everything)],
        "conflicts": [list(pair) for pair in pairs if labels[pair[0]] != labels[pair[1]]],
        "dropped": dropped,
        "near_duplicates": [[names[i], names[j], distance] for i, j, distance in near if checksums[i] != checksums[j]],
        "constant": kept_images.loc[kept_images["contrast"] < CONSTANT, "name"].tolist(),
        "dark": kept_images.loc[kept_images["brightness"] < DARK, "name"].tolist(),
        "bright": kept_images.loc[kept_images["brightness"] > BRIGHT, "name"].tolist(),
        "sizes": {str(size): int(count) for size, count in sizes.items()},
        "modes": {str(mode): int(count) for mode, count in kept_images["mode"].value_counts().items()},
        "splits": split_differences(kept_images),
    }
