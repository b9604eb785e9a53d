"""Cost of a layer: CPU milliseconds for a batch of 64 images, forward and backward, in both precisions.

`python benchmarks/layers.py` prints the tables. The shapes are those in `sprint` and `summit`; batch normalization is
measured as in Keras and as in this project. The layers alternate for five rounds; the tables show medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import keras
import lab
import tensorflow as tf
from keras import layers

from car_or_truck.train import convnet

BATCH, CALLS, ROUNDS = 64, 10, 5
SHAPES = [(64, 64, 32), (32, 32, 64), (16, 16, 128), (8, 8, 256)]
KINDS: dict[str, Callable[[int], Any]] = {
    "convolution 3x3": lambda channels: layers.Conv2D(channels, 3, padding="same", use_bias=False),
    "convolution 1x1": lambda channels: layers.Conv2D(channels, 1, use_bias=False),
    "depthwise 3x3": lambda channels: layers.DepthwiseConv2D(3, padding="same", use_bias=False),
    "batch norm, Keras's": lambda channels: layers.BatchNormalization(),
    "batch norm, fused": lambda channels: convnet.BatchNormalization(),
    "relu": lambda channels: layers.Activation("relu"),
    "gelu": lambda channels: layers.Activation("gelu"),
    "silu": lambda channels: layers.Activation("silu"),
    "max pool 2x2": lambda channels: layers.MaxPool2D(2),
}


def forward_and_backward(layer: Any, shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """The traced forward and backward pass of a layer on a fixed batch."""
    images = tf.cast(tf.random.stateless_normal((BATCH, *shape), [1, 2]), dtype)
    layer.build((None, *shape))

    def run() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = layer(images, training=True)
        return value, tape.gradient(value, [images, *layer.trainable_variables])

    traced: Callable[[], Any] = tf.function(run)
    traced()
    return traced


def main() -> None:
    print(lab.machine(), end="\n\n")
    for precision in ("float32", "mixed_bfloat16"):
        policy = keras.DTypePolicy(precision)
        calls = {}
        for shape in SHAPES:
            for kind, make in KINDS.items():
                layer = make(shape[-1])
                layer.dtype_policy = policy
                calls[kind, shape] = forward_and_backward(layer, shape, policy.compute_dtype)
        times: dict[tuple[str, tuple[int, ...]], list[float]] = {cell: [] for cell in calls}
        for _ in range(ROUNDS):
            for cell, call in calls.items():
                start = time.process_time()
                for _ in range(CALLS):
                    call()
                times[cell].append((time.process_time() - start) / CALLS * 1000)
        print(f"| {precision} | " + " | ".join("x".join(map(str, shape)) for shape in SHAPES) + " |")
        print("|---" * (len(SHAPES) + 1) + "|")
        for kind in KINDS:
            print(f"| {kind} | " + " | ".join(f"{median(times[kind, shape]):.1f}" for shape in SHAPES) + " |")
        print()


if __name__ == "__main__":
    main()
