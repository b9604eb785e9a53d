"""Convnets of keras.applications as bases: weights from Keras's own store or a file.

What is here decides a model's numbers, so `train` depends on it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import keras
from keras import layers

from car_or_truck.errors import Failure
from car_or_truck.train.recipe import Base


def feature_net(base: Base, side: int) -> Any:
    """Images [n, side, side, 3] in 0..1 to the base's last feature maps, its own preprocessing included.

    Batch normalization keeps the statistics that it came with, also where layers are trained.
    Raises Failure when the weights cannot be had or do not fit.
    """
    application = getattr(keras.applications, base.application)
    family = sys.modules[application.__module__]  # whose preprocess_input belongs to it
    arguments: dict[str, Any] = {"include_top": False, "input_shape": (side, side, 3)}
    try:
        net = application(weights="imagenet" if base.weights == "imagenet" else None, **arguments)
        if base.weights not in (None, "imagenet"):
            net.load_weights(_file(base))
    except Failure:
        raise
    except Exception as error:  # Keras raises plain Exception for a download that fails
        raise Failure(_explained(base, error)) from None
    _freeze(net, base)
    image = layers.Input((side, side, 3), name="picture")
    pixels = layers.Rescaling(255.0)(image)  # the families' own functions want 0..255
    return keras.Model(image, net(family.preprocess_input(pixels), training=False), name="features")


def _freeze(net: Any, base: Base) -> None:
    if isinstance(base.trainable, bool):
        net.trainable = base.trainable
        return
    names = [layer.name for layer in net.layers]
    if base.trainable not in names:
        shown = ", ".join(name for name in names if "conv" in name or "block" in name)[:300]
        raise Failure(f"base.trainable is {base.trainable!r}, which is no layer of {base.application}: {shown} ...")
    for layer in net.layers[: names.index(base.trainable)]:
        layer.trainable = False


def _file(base: Base) -> str:
    path = Path(str(base.weights)).expanduser()
    if not path.is_file():
        raise Failure(
            f"base.weights is {base.weights!r}, but there is no such file. "
            "Give a weights file's path, imagenet (downloaded by Keras) or null (random)."
        )
    return str(path)


def _explained(base: Base, error: Exception) -> str:
    text = " ".join(str(error).split())
    url = re.search(r"https?://\S+", text)
    if base.weights == "imagenet" and url:
        address = url.group().rstrip(":,")
        name = address.rsplit("/", 1)[-1]
        return (
            f"The ImageNet weights of {base.application} ({name}) are not in Keras's store and cannot be downloaded. "
            f"Connect to the network, or fetch {address} elsewhere and put it at ~/.keras/models/{name} "
            "(or give its path as base.weights)."
        )
    return f"{base.application} cannot be made with base.weights {base.weights!r}: {text[:300]}"
