"""A trained model from inside: its layers and their cost, what its first blocks compute, and where it looks.

Works on models as `train` saves them: Sequential or functional, with or without a base.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch
from zipfile import BadZipFile

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from car_or_truck.errors import Failure, summarize

Floats = NDArray[np.float32]
POOLS = layers.MaxPooling2D | layers.AveragePooling2D
BLACK = 0.06  # of white: brighter pixels belong to the picture


def load_net(path: Path) -> Any:
    """The net in a model.keras; a Failure when the file is not whole."""
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise Failure(f"{path} cannot be loaded: {summarize(error)}") from None


class Step(NamedTuple):
    """A layer as the diagram shows it; a pretrained base is one step."""

    kind: str  # the layer's class
    label: str
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int


def summary(net: Any) -> str:
    """The summary that Keras prints, as on a wide terminal: the real one's width would be part of an output."""
    lines: list[str] = []
    with patch.dict(os.environ, COLUMNS="110"):
        net.summary(print_fn=lambda line, **_: lines.append(line))
    return "\n".join(lines) + "\n"


def steps(net: Any) -> list[Step]:
    """The layers in order, the input first."""
    return [
        Step("Input", "input", tuple(net.input_shape[1:]), 0),
        *(
            Step(type(layer).__name__, _label(layer), tuple(layer.output.shape[1:]), layer.count_params())
            for layer in net.layers
            if not isinstance(layer, layers.InputLayer)
        ),
    ]


NAMES = {
    "Conv2D": "conv",
    "SeparableConv2D": "sep. conv",
    "MaxPooling2D": "max pool",
    "AveragePooling2D": "avg pool",
    "BatchNormalization": "batch\nnorm",
    "GlobalMaxPooling2D": "global\nmax",
    "GlobalAveragePooling2D": "global\naverage",
}


def _label(layer: Any) -> str:
    if isinstance(layer, keras.Model):  # a base: named like the net that follows its preprocessing
        return str(next((part.name for part in layer.layers if isinstance(part, keras.Model)), layer.name))
    kind = type(layer).__name__
    if kind == "Activation":
        return str(layer.activation.__name__)
    label = NAMES.get(kind, kind.lower())
    if kind.endswith("Conv2D"):
        label += " " + "x".join(map(str, layer.kernel_size))
    if kind == "Dropout":
        label += f"\n{layer.rate:g}"
    activation = getattr(layer, "activation", keras.activations.linear)
    return label if activation is keras.activations.linear else f"{label}\n{activation.__name__}"


def multiply_adds(net: Any) -> int:
    """Multiply-accumulate operations for one image, in convolutions and dense layers."""
    total = 0
    for layer in net.layers:
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
        elif isinstance(layer, layers.SeparableConv2D):
            height, width, filters = layer.output.shape[1:]
            inputs = layer.input.shape[-1]
            total += height * width * inputs * (layer.kernel_size[0] * layer.kernel_size[1] + filters)
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            height, width = layer.output.shape[1:3]
            total += height * width * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, layers.Dense):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    return total


class Maps(NamedTuple):
    """What a convolution makes of an image, by the lesson's three operations; each [h, w, channels]."""

    filtered: Floats  # the convolution alone
    detected: Floats  # after its activation
    condensed: Floats | None  # after the pool that follows, if one does


def feature_maps(net: Any, image: Floats) -> list[Maps]:
    """The maps of the first two blocks for an image [h, w, 3] in 0..1; none if the model starts with a base."""
    blocks: list[Maps] = []
    order = [layer for layer in net.layers if not isinstance(layer, layers.InputLayer | layers.Dropout)]
    for place, layer in enumerate(order):
        if len(blocks) == 2 or isinstance(layer, keras.Model):
            break
        begins = not place or isinstance(order[place - 1], POOLS)
        if not (begins and isinstance(layer, layers.Conv2D | layers.SeparableConv2D)):
            continue
        before = _after(net, order[place - 1], image[None]) if place else tf.constant(image[None])
        plain = type(layer).from_config({**layer.get_config(), "activation": "linear", "dtype": "float32"})
        plain.build(layer.input.shape)
        plain.set_weights(layer.get_weights())
        filtered = plain(tf.cast(before, tf.float32)).numpy()[0]
        source, detected = layer, np.asarray(layer.activation(tf.constant(filtered)))
        if layer.activation is keras.activations.linear:  # then it is a layer of its own, after batch norm
            source = next((after for after in order[place:] if isinstance(after, layers.Activation)), layer)
            detected = np.asarray(_after(net, source, image[None]), np.float32)[0]
        pool = order[order.index(source) + 1]  # a later one condenses another convolution's maps
        condensed = np.asarray(_after(net, pool, image[None]), np.float32)[0] if isinstance(pool, POOLS) else None
        blocks.append(Maps(filtered, detected, condensed))
    return blocks


def _after(net: Any, layer: Any, images: Any) -> Any:
    """The output of `layer` for the images."""
    if not isinstance(net, keras.Sequential):
        return keras.Model(net.inputs, layer.output)([images], training=False)
    value = tf.constant(images)  # a base has several outputs, of which `layer.output` may be another's
    for part in net.layers:
        value = part(value, training=False)
        if part is layer:
            break
    return value


def grad_cam(net: Any, images: Floats) -> Floats:
    """Where the model looks: Grad-CAM (Selvaraju et al. 2017) of the predicted class, [n, h, w] in 0..1.

    `images` are in 0..1; h and w are those of the last maps, which are smaller. The gradient is that of the log-odds,
    which does not vanish for confident predictions.
    """
    last = max(place for place, layer in enumerate(net.layers) if len(layer.output.shape) == 4)
    maps = _after(net, net.layers[last], images)
    kernel, bias = (tf.cast(weight, tf.float32) for weight in net.layers[-1].get_weights())
    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = maps
        for layer in net.layers[last + 1 : -1]:
            value = layer(value, training=False)
        log_odds = tf.cast(value, tf.float32) @ kernel + bias
        total = tf.reduce_sum(tf.abs(log_odds))
    gradients = tf.cast(tape.gradient(total, maps), tf.float32)
    weights = tf.reduce_mean(gradients, axis=[1, 2], keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
    heat = tf.math.divide_no_nan(cam, tf.reduce_max(cam, axis=[1, 2], keepdims=True))
    return np.nan_to_num(np.asarray(heat, np.float32))  # of a net whose weights have grown beyond all bounds


class Looks(NamedTuple):
    """How much of what drives predictions lies on the letterbox bars; shares of 1, over several images."""

    heat_on_bars: float | None  # of the Grad-CAM; None if nothing drives them, as in a dead net
    bars: float  # of the area


def heat_on_bars(net: Any, images: Floats) -> Looks:
    """Whether the model looks at the bars of `images` [n, h, w, 3] in 0..1, or at the pictures.

    A bar is what is black throughout its rows or columns.
    """
    lit = images.max(axis=3) > BLACK
    bars = ~(lit.any(axis=2, keepdims=True) & lit.any(axis=1, keepdims=True))
    heat = tf.image.resize(grad_cam(net, images)[..., None], images.shape[1:3])[..., 0].numpy()
    total = float(heat.sum())
    return Looks(float(heat[bars].sum()) / total if total else None, float(bars.mean()))
