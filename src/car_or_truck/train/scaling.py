"""Images at the side that a model takes. Shipped inside every logged model too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resized(images: NDArray[np.uint8], side: int, chunk: int = 512) -> NDArray[np.uint8]:
    """Images [n, h, w, 3] at `side` pixels: area averages when that is smaller, bilinear when it is larger."""
    import tensorflow as tf

    method = "area" if side < images.shape[1] else "bilinear"
    resized = np.empty((len(images), side, side, 3), np.uint8)
    for start in range(0, len(images), chunk):
        part = tf.image.resize(images[start : start + chunk], [side, side], method)
        resized[start : start + chunk] = tf.round(part).numpy().clip(0, 255)
    return resized
