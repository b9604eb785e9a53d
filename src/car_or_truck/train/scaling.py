"""Images at the side that a model takes. Shipped inside every logged model too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK = 512  # images at a time


def resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Images [n, h, w, 3] at `side` pixels: area averages when that is smaller, bilinear when it is larger."""
    import tensorflow as tf

    method = "area" if side < images.shape[1] else "bilinear"
    resized = np.empty((len(images), side, side, 3), np.uint8)
    for start in range(0, len(images), CHUNK):
        part = tf.image.resize(images[start : start + CHUNK], [side, side], method)
        resized[start : start + CHUNK] = tf.round(part).numpy().clip(0, 255)
    return resized
