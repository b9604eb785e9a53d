"""Prepared images as batches for Keras: mapped into memory, in an order that is fixed beforehand.

What is here decides a model's numbers, so `train` depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from car_or_truck.errors import Failure


@dataclass(frozen=True)
class Split:
    """One split of data/prepared. `images`: uint8 [n, size, size, 3], memory-mapped; `labels`: uint8 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)


def load(prepared: Path, split: str) -> Split:
    """Map a split into memory; a Failure when its arrays are missing or do not fit together."""
    folder = prepared / split
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy")
    except (OSError, ValueError, EOFError) as error:
        raise Failure(f"{folder} cannot be read ({error}). Run `dvc repro prepare`.") from None
    if len(images) != len(labels) or not len(labels):
        raise Failure(f"{folder} holds {len(images)} images and {len(labels)} labels. Run `dvc repro --force prepare`.")
    return Split(images, labels)


def training_order(count: int, epochs: int, shuffle: str, seed: int) -> NDArray[np.int32]:
    """The order of the training images in every epoch: [epochs, count].

    "once" repeats the first epoch's order, as the lesson's pipeline does, which caches its batches
    after shuffling. Any epoch's row can be had without the ones before it.
    """
    draws = [0] * epochs if shuffle == "once" else range(epochs)
    rows = {draw: np.random.default_rng([seed, draw]).permutation(count) for draw in set(draws)}
    return np.stack([rows[draw] for draw in draws]).astype(np.int32)


def stream(split: Split, order: NDArray[np.int32], batch_size: int) -> Any:
    """A tf.data.Dataset of (images float32 [b, h, w, 3] in 0..1, labels float32 [b, 1]).

    `order` is [epochs, n]: the epochs follow one another, each ending with its own short batch.
    """
    import tensorflow as tf

    def gather(indices: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return split.images[indices], split.labels[indices].astype(np.float32)[:, None]

    def batch(indices: Any) -> tuple[Any, Any]:
        images, labels = tf.numpy_function(gather, [indices], [tf.uint8, tf.float32], stateful=False)
        images.set_shape([None, *split.images.shape[1:]])
        labels.set_shape([None, 1])
        return tf.image.convert_image_dtype(images, tf.float32), labels

    epochs = tf.data.Dataset.from_tensor_slices(order)
    indices = epochs.flat_map(lambda row: tf.data.Dataset.from_tensor_slices(row).batch(batch_size))
    # One thread gathers ahead of the training; more would change nothing but the order's certainty.
    ahead = indices.map(batch).prefetch(2)
    count = len(order) * steps(order.shape[1], batch_size)
    dataset = ahead.apply(tf.data.experimental.assert_cardinality(count))
    dataset.batch_size = batch_size  # where MLflow's autologging looks for it
    return dataset


def in_order(split: Split, batch_size: int) -> Any:
    """The whole split once, as it lies, in batches."""
    return stream(split, np.arange(len(split), dtype=np.int32)[None], batch_size)


def steps(count: int, batch_size: int) -> int:
    """Batches an epoch; the last one may be short."""
    return -(-count // batch_size)
