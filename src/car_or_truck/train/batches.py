"""Prepared images as batches for Keras: mapped into memory, in an order fixed beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from car_or_truck.errors import Failure
from car_or_truck.train.recipe import Recipe
from car_or_truck.train.scaling import resized


@dataclass(frozen=True)
class Split:
    """One split of data/prepared.

    `images`: uint8 [n, side, side, 3], memory-mapped unless they were resized; or the float32
    features of a frozen base, [n, h, w, channels]. `labels`: uint8 [n].
    """

    images: NDArray[Any]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


def load(prepared: Path, split: str, side: int | None = None) -> Split:
    """Map a split into memory, at `side` pixels. Raises Failure when its arrays are missing or do not match."""
    folder = prepared / split
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy")
    except (OSError, ValueError, EOFError) as error:
        raise Failure(f"{folder} cannot be read ({error}). Run `dvc repro prepare`.") from None
    if len(images) != len(labels) or not len(labels):
        raise Failure(f"{folder} holds {len(images)} images and {len(labels)} labels. Run `dvc repro prepare`.")
    if side is not None and side != images.shape[1]:
        images = resized(images, side)
    return Split(images, labels)


def training_order(count: int, epochs: int, shuffle: str, seed: int) -> NDArray[np.int32]:
    """The order of the training images in every epoch: [epochs, count].

    "once" repeats the first epoch's order, as in the lesson, which caches after shuffling. Each row
    is computed without those before it.
    """
    draws = [0] * epochs if shuffle == "once" else range(epochs)
    rows = {draw: np.random.default_rng([seed, draw]).permutation(count) for draw in set(draws)}
    return np.stack([rows[draw] for draw in draws]).astype(np.int32)


def stream(split: Split, order: NDArray[np.int32], batch_size: int, change: Callable[..., Any] | None = None) -> Any:
    """A tf.data.Dataset of (images float32 [b, h, w, c], labels float32 [b, 1]); pixels in 0..1.

    `order` is [epochs, n]: epoch follows epoch, each with a short batch at its end.
    `change(step, images, labels)` replaces each batch; `step` counts from 0 over all epochs.
    """
    import tensorflow as tf

    kind = tf.as_dtype(split.images.dtype)

    def gather(indices: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        return split.images[indices], split.labels[indices].astype(np.float32)[:, None]

    def batch(indices: Any) -> tuple[Any, Any]:
        images, labels = tf.numpy_function(gather, [indices], [kind, tf.float32], stateful=False)
        images.set_shape([None, *split.images.shape[1:]])
        labels.set_shape([None, 1])
        return tf.image.convert_image_dtype(images, tf.float32), labels

    epochs = tf.data.Dataset.from_tensor_slices(order)
    indices = epochs.flat_map(lambda row: tf.data.Dataset.from_tensor_slices(row).batch(batch_size))
    # One thread gathers ahead of the training; more would gain nothing, and might change the order.
    filled = indices.map(batch)
    if change is not None:
        filled = filled.enumerate().map(lambda step, both: change(step, *both))
    count = len(order) * steps(order.shape[1], batch_size)
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and its thread delays the end by up to a minute
    return filled.prefetch(2).apply(tf.data.experimental.assert_cardinality(count)).with_options(options)


def training_change(
    recipe: Recipe, labels: NDArray[np.uint8], seed: int, first_step: int = 0
) -> Callable[..., Any] | None:
    """What is done to training batches alone: augmentation, label smoothing, class weights; None if nothing.

    `first_step`: the number of steps trained before, in a resumed training.
    """
    import tensorflow as tf

    from car_or_truck.train.augment import augment

    smoothing, augmented = recipe.loss.label_smoothing, recipe.augment != type(recipe.augment)()
    if not (smoothing or augmented or recipe.class_weight):
        return None
    share = float(labels.mean())

    def change(step: Any, images: Any, answers: Any) -> tuple[Any, ...]:
        # Both classes have the same total weight, and the mean weight of an image is 1.
        weights = answers * (0.5 / share) + (1 - answers) * (0.5 / (1 - share))
        if augmented:
            images, answers = augment(
                images, answers, recipe.augment, tf.stack([seed % 2**31, tf.cast(step, tf.int32) + first_step])
            )
        answers = answers * (1 - smoothing) + smoothing / 2
        return (images, answers, weights) if recipe.class_weight else (images, answers)

    return change


def in_order(split: Split, batch_size: int) -> Any:
    """The whole split once, in its own order, in batches."""
    return stream(split, np.arange(len(split), dtype=np.int32)[None], batch_size)


def steps(count: int, batch_size: int) -> int:
    """The number of batches in an epoch; the last may be short."""
    return -(-count // batch_size)
