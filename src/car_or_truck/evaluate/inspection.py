"""Looking into a trained net: its layers and their cost, what its first blocks see, and where it looks.

All of it works on nets as train saves them: Sequential or functional, with or without a base.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Step(NamedTuple):
    """One layer as the diagram shows it; a pretrained base is one step."""

    kind: str  # the layer's class
    label: str
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int


def steps(net: Any) -> list[Step]:
    """The layers in their order, the input first."""
    found = [Step("Input", "input", tuple(net.input_shape[1:]), 0)]
    for layer in net.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        found.append(Step(type(layer).__name__, _label(layer), tuple(layer.output.shape[1:]), layer.count_params()))
    return found


def _label(layer: Any) -> str:
    if isinstance(layer, layers.SeparableConv2D | layers.Conv2D):
        kind = "sep. conv" if isinstance(layer, layers.SeparableConv2D) else "conv"
        activation = layer.activation.__name__
        size = "x".join(map(str, layer.kernel_size))
        return f"{kind} {size}" + (f"\n{activation}" if activation != "linear" else "")
    if isinstance(layer, layers.Dense):
        return f"dense\n{layer.activation.__name__}"
    if isinstance(layer, layers.Dropout):
        return f"dropout\n{layer.rate:g}"
    if isinstance(layer, layers.Activation):
        return str(layer.activation.__name__)
    if isinstance(layer, keras.Model):
        inner = [str(part.name) for part in layer.layers if isinstance(part, keras.Model)]
        return inner[0] if inner else str(layer.name)
    names = {
        "MaxPooling2D": "max pool",
        "AveragePooling2D": "avg pool",
        "BatchNormalization": "batch\nnorm",
        "GlobalMaxPooling2D": "global\nmax",
        "GlobalAveragePooling2D": "global\naverage",
    }
    name: str = type(layer).__name__
    return names.get(name, name.lower())


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
    return int(total)


class Maps(NamedTuple):
    """What one convolution does to a picture, in the lesson's three operations; each [h, w, channels]."""

    layer: str
    filtered: Floats  # the convolution alone
    detected: Floats  # after its activation
    condensed: Floats | None  # after the pool that follows; None where none does


def feature_maps(net: Any, image: Floats, most: int = 2) -> list[Maps]:
    """The first `most` blocks' work on one image [h, w, 3] in 0..1; nothing for a net that starts with a base."""
    found: list[Maps] = []
    order = [layer for layer in net.layers if not isinstance(layer, layers.InputLayer)]
    for place, layer in enumerate(order):
        if len(found) == most or isinstance(layer, keras.Model):
            break
        pooled_since = place == 0 or isinstance(order[place - 1], layers.MaxPooling2D | layers.AveragePooling2D)
        if not isinstance(layer, layers.Conv2D) or not pooled_since:
            continue
        pool = next((later for later in order[place:] if "Pooling2D" in type(later).__name__), None)
        before = _after(net, order[place - 1], image[None]) if place else tf.constant(image[None])
        plain = layers.Conv2D.from_config({**layer.get_config(), "activation": "linear", "dtype": "float32"})
        plain.build(layer.input.shape)
        plain.set_weights(layer.get_weights())
        filtered = plain(tf.cast(before, tf.float32)).numpy()[0]
        detected = np.asarray(layer.activation(tf.constant(filtered)))
        if layer.activation is keras.activations.linear:  # then it stands in a layer of its own, after a batch norm
            later = next((after for after in order[place:] if isinstance(after, layers.Activation)), layer)
            detected = np.asarray(_after(net, later, image[None]), np.float32)[0]
        pooled = pool is not None and len(pool.output.shape) == 4
        condensed = np.asarray(_after(net, pool, image[None]), np.float32)[0] if pooled else None
        found.append(Maps(layer.name, filtered, detected, condensed))
    return found


def _after(net: Any, layer: Any, images: Any) -> Any:
    """What `layer` gives for the images."""
    if not isinstance(net, keras.Sequential):
        return keras.Model(net.inputs, layer.output)([images], training=False)
    value = tf.constant(images)
    for part in net.layers:
        value = part(value, training=False)
        if part is layer:
            break
    return value


def first_kernels(net: Any) -> Floats | None:
    """The first convolution's kernels as pictures: [filters, k, k, 3], each scaled to 0..1; None with a base."""
    for layer in net.layers:
        if isinstance(layer, layers.Conv2D) and layer.kernel.shape[2] == 3:
            kernels = np.moveaxis(np.asarray(layer.kernel, np.float32), -1, 0)
            reach = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
            scaled: Floats = 0.5 + kernels / (2 * np.maximum(reach, 1e-12))
            return scaled
    return None


def grad_cam(net: Any, images: Floats) -> Floats:
    """Where the net looks: Grad-CAM (Selvaraju et al. 2017) of the answer it gives, [n, h, w] in 0..1.

    The gradient is that of the log-odds, which does not vanish where the net is sure.
    """
    last = [layer for layer in net.layers if len(layer.output.shape) == 4][-1]
    answer = net.layers[-1]
    maps = _after(net, last, images)
    kernel, bias = (tf.cast(weight, tf.float32) for weight in answer.get_weights())
    with tf.GradientTape() as tape:
        tape.watch(maps)
        odds = _log_odds(net, last, maps, kernel, bias)
        said = tf.reduce_sum(tf.abs(odds))
    gradients = tf.cast(tape.gradient(said, maps), tf.float32)
    weights = tf.reduce_mean(gradients, axis=[1, 2], keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))
    top = tf.reduce_max(cam, axis=[1, 2], keepdims=True)
    return np.asarray(tf.math.divide_no_nan(cam, top), np.float32)


def _log_odds(net: Any, last: Any, maps: Any, kernel: Any, bias: Any) -> Any:
    """The log-odds as a function of the last feature maps."""
    after = net.layers[list(net.layers).index(last) + 1 : -1]
    value = maps
    for layer in after:
        value = layer(value, training=False)
    return tf.cast(value, tf.float32) @ kernel + bias
