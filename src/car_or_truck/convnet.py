"""Recipes as Keras models.

What is here decides a model's numbers, so `train` depends on it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from car_or_truck.recipe import POOL, Recipe


def build(recipe: Recipe, image_size: int) -> Any:
    """The convnet, not compiled: float images [n, image_size, image_size, 3] in 0..1 to P(Truck) [n, 1].

    The layers are the lesson's own, one for one, so that its printed summaries fit. The last layer
    is float32 at any precision: a sigmoid in bfloat16 has too few digits for a loss.
    """
    net = keras.Sequential(name="convnet")
    net.add(layers.Input([image_size, image_size, 3], name="image"))
    for block in recipe.blocks:
        for _ in range(block.convs):
            net.add(layers.Conv2D(block.filters, block.kernel_size, padding="same", activation="relu"))
        net.add(layers.MaxPool2D(POOL))
    net.add(layers.Flatten())
    net.add(layers.Dense(recipe.head.units, activation="relu"))
    if recipe.head.dropout:
        net.add(layers.Dropout(recipe.head.dropout))
    net.add(layers.Dense(1, activation="sigmoid", dtype="float32"))
    return net


def compile_net(net: Any, recipe: Recipe) -> None:
    """Give the net its optimizer, its loss (binary cross-entropy) and its metric (binary accuracy)."""
    optimizer = keras.optimizers.get({"class_name": recipe.optimizer.name, "config": recipe.optimizer.arguments})
    net.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["binary_accuracy"])
