"""Prepared images at the side that a net sees.

What is here decides a model's numbers, so `train` depends on it; it is also shipped inside every logged model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resized(images: NDArray[np.uint8], side: int, chunk: int = 512) -> NDArray[np.uint8]:
    """Every image [n, h, w, 3] at `side` pixels: the mean of what a pixel covers when smaller, bilinear when larger."""
    import tensorflow as tf

    method = "area" if side < images.shape[1] else "bilinear"
    resized = np.empty((len(images), side, side, 3), np.uint8)
    for start in range(0, len(images), chunk):
        part = tf.image.resize(images[start : start + chunk], [side, side], method)
        resized[start : start + chunk] = tf.round(part).numpy().clip(0, 255)
    return resized
