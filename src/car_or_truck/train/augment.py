"""Random changes to batches of training images, by stateless TensorFlow operations.

The same seed and step change a batch in the same way, so a resumed training sees the images that an
uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from car_or_truck.train.recipe import Augment


def augment(images: Any, labels: Any, settings: Augment, seed: Any) -> tuple[Any, Any]:
    """Changed copies of `images`, float [b, h, w, 3] in 0..1, and `labels` [b, 1]; `seed`, int [2], is the batch's."""
    draws = _Draws(seed)
    images = _moved(images, settings, draws)
    count = tf.shape(images)[0]
    if settings.contrast:
        mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        images = mean + (images - mean) * (1 + settings.contrast * draws.between([count, 1, 1, 1]))
    if settings.brightness:
        images += settings.brightness * draws.between([count, 1, 1, 1])
    if settings.contrast or settings.brightness:
        images = tf.clip_by_value(images, 0.0, 1.0)
    if settings.erase:
        images = _erased(images, settings.erase, draws)
    if settings.mixup:
        images, labels = _mixed(images, labels, settings.mixup, draws)
    return images, labels


class _Draws:
    """Independent random numbers from one seed: each draw uses a sub-seed of its own."""

    def __init__(self, seed: Any) -> None:
        self.seed, self.taken = tf.cast(seed, tf.int32), 0

    def next(self) -> Any:
        self.taken += 1
        return tf.random.fold_in(self.seed, self.taken)

    def between(self, shape: Any) -> Any:
        """Uniform in -1..1."""
        return tf.random.stateless_uniform(shape, self.next(), -1.0, 1.0)


def _moved(images: Any, settings: Augment, draws: _Draws) -> Any:
    """Flip, shift, rotate and zoom in one projection; what moves in is black, like the letterbox bars."""
    if not (settings.flip or settings.shift or settings.rotate or settings.zoom):
        return images
    count = tf.shape(images)[0]
    height, width = (tf.cast(tf.shape(images)[axis], tf.float32) for axis in (1, 2))
    angle = draws.between([count]) * (settings.rotate * math.pi / 180)
    scale = 1 + settings.zoom * draws.between([count])
    right, down = (settings.shift * side * draws.between([count]) for side in (width, height))
    mirror = tf.where(draws.between([count]) < 0, -1.0, 1.0) if settings.flip else tf.ones([count])
    # Output pixel (x, y) is read from (a x + b y + c, d x + e y + f), about the image's centre.
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    a, b, d, e = mirror * cos, -mirror * sin, sin, cos
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    c = middle_x - a * (middle_x + right) - b * (middle_y + down)
    f = middle_y - d * (middle_x + right) - e * (middle_y + down)
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR" if settings.shift or settings.rotate or settings.zoom else "NEAREST",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _erased(images: Any, share: float, draws: _Draws) -> Any:
    """Put a grey square at a random place, its side up to `share` of the image's."""
    shape = tf.shape(images)
    rows = tf.range(tf.cast(shape[1], tf.float32))[None, :, None, None] / tf.cast(shape[1], tf.float32)
    columns = tf.range(tf.cast(shape[2], tf.float32))[None, None, :, None] / tf.cast(shape[2], tf.float32)
    middle_x, middle_y, half = ((draws.between([shape[0], 1, 1, 1]) + 1) / 2 for _ in range(3))
    half *= share / 2
    inside = (tf.abs(rows - middle_y) < half) & (tf.abs(columns - middle_x) < half)
    return tf.where(inside, 0.5, images)


def _mixed(images: Any, labels: Any, alpha: float, draws: _Draws) -> tuple[Any, Any]:
    """Mixup (Zhang et al. 2018): blend each image with another one of the batch, and their labels alike."""
    shape = [tf.shape(images)[0]]
    one, other = (tf.random.stateless_gamma(shape, draws.next(), alpha) for _ in range(2))
    blend = tf.math.divide_no_nan(one, one + other)
    blend = tf.maximum(blend, 1 - blend)  # the image itself keeps the larger part, so its label keeps its side
    wide = blend[:, None, None, None]
    return (
        wide * images + (1 - wide) * tf.roll(images, 1, axis=0),
        blend[:, None] * labels + (1 - blend[:, None]) * tf.roll(labels, 1, axis=0),
    )
