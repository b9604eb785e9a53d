"""What a camera, a file or the street can do to a picture: blur, noise, compression, darkness, an obstacle.

A corruption takes a picture inside its letterbox bars, uint8 [h, w, 3], a strength as params.yaml gives
it, and a random generator; it returns a picture of the same shape. After Hendrycks and Dietterich
(2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from car_or_truck.drawing import Pixels

if TYPE_CHECKING:
    from car_or_truck.params import Corruptions

GREY = 128


def blur(picture: Pixels, strength: float, _: Generator) -> Pixels:
    """Out of focus: a Gaussian blur; its standard deviation is a share of the longer side."""
    radius = strength * max(picture.shape[:2])
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def noise(picture: Pixels, strength: float, random: Generator) -> Pixels:
    """Too little light for the sensor: Gaussian noise; its standard deviation is a share of 255."""
    added = 255 * strength * random.standard_normal(picture.shape, np.float32)
    return (picture + added).round().clip(0, 255).astype(np.uint8)


def jpeg(picture: Pixels, strength: float, _: Generator) -> Pixels:
    """Compressed as JPEG of this quality, 1 to 95."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=int(strength))
    return np.asarray(Image.open(file))


def darkening(picture: Pixels, strength: float, _: Generator) -> Pixels:
    """Underexposed: every value loses this share of itself."""
    return (picture * np.float32(1 - strength)).round().astype(np.uint8)


def occlusion(picture: Pixels, strength: float, random: Generator) -> Pixels:
    """Something in front: a grey square at a random position hides this share of the area, or as much as fits."""
    height, width = picture.shape[:2]
    side = min(height, width, round((strength * height * width) ** 0.5))
    top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
    changed = picture.copy()
    changed[top : top + side, left : left + side] = GREY
    return changed


CORRUPTIONS: dict[str, Callable[[Pixels, float, Generator], Pixels]] = {
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
    "darkening": darkening,
    "occlusion": occlusion,
}
MILD, STRONG = ([f"{name}_{level}" for name in CORRUPTIONS] for level in (1, 2))  # names of slices


def conditions(corruptions: Corruptions) -> dict[str, tuple[str, float]]:
    """Each corruption at each strength: {"blur_1": ("blur", 0.008), ...}."""
    return {f"{name}_{level}": (name, strength) for name, both in corruptions for level, strength in enumerate(both, 1)}


def sample(index: pd.DataFrame, share: float) -> pd.DataFrame:
    """The rows of index.csv whose images are corrupted: this share of each class, rounded up, chosen by content."""
    shuffled = index.sort_values(["sha256", "name"])
    by_class = shuffled.groupby("label")["name"]
    return shuffled[by_class.cumcount() < share * by_class.transform("size")].sort_index()


def corrupt(images: Pixels, about: pd.DataFrame, name: str, strength: float) -> Pixels:
    """Corrupted copies of images [n, h, w, 3].

    `about` has a row an image: its box inside the letterbox bars (left, top, right, bottom), and the
    sha256 of its file, which alone decides what is random. So every model sees the same pictures.
    """
    changed = np.array(images)
    boxes: NDArray[np.int64] = about[["left", "top", "right", "bottom"]].to_numpy()
    for image, (left, top, right, bottom), checksum in zip(changed, boxes, about["sha256"], strict=True):
        picture = image[top:bottom, left:right]
        picture[:] = CORRUPTIONS[name](picture, strength, np.random.default_rng(int(checksum[:16], 16)))
    return changed
