"""Convnets of keras.applications as bases, with weights from Keras or from a file."""

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
    """The base as a model: images [n, side, side, 3] in 0..1 to its last feature maps, preprocessing included.

    Batch normalization keeps its pretrained statistics, also in trainable layers. Raises Failure
    when the weights cannot be loaded.
    """
    application = getattr(keras.applications, base.application)
    family = sys.modules[application.__module__]  # the module that holds its preprocess_input
    arguments: dict[str, Any] = {"include_top": False, "input_shape": (side, side, 3)}
    try:
        net = application(weights="imagenet" if base.weights == "imagenet" else None, **arguments)
        if base.file:
            net.load_weights(Path(base.file).expanduser())
    except Exception as error:  # Keras raises plain Exception when a download fails
        raise Failure(_explained(base, error)) from None
    _freeze(net, base)
    image = layers.Input((side, side, 3), name="picture")
    pixels = layers.Rescaling(255.0)(image)  # preprocess_input expects 0..255
    return keras.Model(image, net(family.preprocess_input(pixels), training=False), name="features")


def _freeze(net: Any, base: Base) -> None:
    if isinstance(base.trainable, bool):
        net.trainable = base.trainable
        return
    names = [layer.name for layer in net.layers]
    if base.trainable not in names:
        shown = ", ".join(name for name in names if "conv" in name or "block" in name)[:300]
        raise Failure(f"base.trainable is {base.trainable!r}, but {base.application} has no such layer: {shown} ...")
    for layer in net.layers[: names.index(base.trainable)]:
        layer.trainable = False


def _explained(base: Base, error: Exception) -> str:
    text = " ".join(str(error).split())
    url = re.search(r"https?://\S+", text)
    if base.weights == "imagenet" and url:
        address = url.group().rstrip(":,")
        name = address.rsplit("/", 1)[-1]
        return (
            f"The ImageNet weights of {base.application} cannot be downloaded, and ~/.keras/models/{name} does not "
            f"exist. Connect to the network, or download {address} elsewhere and put it there "
            "(or name it in base.weights)."
        )
    return f"{base.application} cannot be built with base.weights {base.weights!r}: {text[:300]}"
