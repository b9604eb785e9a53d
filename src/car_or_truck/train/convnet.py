"""Recipes as Keras models."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from car_or_truck.train.muon import Muon
from car_or_truck.train.pretrained import feature_net
from car_or_truck.train.recipe import POOL, THRESHOLD, Augment, Block, Head, Optimizer, Recipe, Schedule


def build(recipe: Recipe, image_size: int) -> Any:
    """The uncompiled convnet: float images [n, side, side, 3] in 0..1 to P(second class) [n, 1].

    Without a residual block it is a Sequential whose layers match the lesson's one for one, and so
    do their summaries. The last layer is float32 at any precision: a sigmoid in bfloat16 has too few
    digits for a loss.
    """
    side = recipe.side(image_size)
    shape = (side, side, 3)
    steps: list[Any] = []
    if recipe.base is not None:
        features = feature_net(recipe.base, side)
        steps, shape = [features], features.output_shape[1:]
    for block in recipe.blocks:
        block_steps, shape = _block(block, shape, recipe.l2)
        steps += block_steps
    return _assemble((side, side, 3), [*steps, *_head(recipe.head, recipe.l2)])


def parts(net: Any, recipe: Recipe) -> tuple[Any, Any]:
    """Split a net whose frozen base sees the same images each epoch into (features, top), so that the
    features are computed once; any other net gives (None, net). The parts share the net's weights."""
    if recipe.base is None or recipe.base.trainable is not False or recipe.augment != Augment():
        return None, net
    features = net.get_layer("features")
    if isinstance(net, keras.Sequential):
        return features, keras.Sequential([layers.Input(features.output_shape[1:]), *net.layers[1:]], name="top")
    return features, keras.Model(features.output, net.output, name="top")


def _assemble(shape_of_input: tuple[int, ...], steps: list[Any]) -> Any:
    """A Sequential of the steps; a functional model if a step is a pair (branch, shortcut) to be added."""
    if not any(isinstance(step, tuple) for step in steps):
        return keras.Sequential([layers.Input(shape_of_input, name="image"), *steps], name="convnet")
    image = value = layers.Input(shape_of_input, name="image")
    for step in steps:
        if isinstance(step, tuple):
            branch, shortcut = value, value
            for layer in step[0]:
                branch = layer(branch)
            for layer in step[1]:
                shortcut = layer(shortcut)
            value = layers.Add()([branch, shortcut])
        else:
            value = step(value)
    return keras.Model(image, value, name="convnet")


def _block(block: Block, shape: tuple[int, int, int], l2: float) -> tuple[list[Any], tuple[int, int, int]]:
    """The block's steps, and the shape of its output for an input of `shape`."""
    steps: list[Any] = []
    for place in range(block.convs):
        strides = block.strides if place == 0 else 1
        last = place == block.convs - 1
        # The activation belongs to the convolution, as in the lesson, unless something stands between them.
        fused = not block.batch_norm and not (block.residual and last)
        steps.append(_convolution(block, strides, block.activation if fused else None, l2))
        if block.batch_norm:
            # Keras's default of 0.99 averages over hundreds of steps: too slow where weights move fast.
            steps.append(BatchNormalization(momentum=0.8))
        if not fused and not (block.residual and last):
            steps.append(layers.Activation(block.activation))
    side = -(-shape[0] // block.strides)
    if block.residual:
        shortcut: list[Any] = []
        if shape != (side, side, block.filters):
            shortcut.append(
                layers.Conv2D(block.filters, 1, strides=block.strides, padding="same", kernel_regularizer=_penalty(l2))
            )
        steps = [(steps, shortcut), layers.Activation(block.activation)]
    if block.pool != "none":
        steps.append(layers.MaxPool2D(POOL) if block.pool == "max" else layers.AveragePooling2D(POOL))
        side //= POOL
    if block.dropout:
        steps.append(layers.Dropout(block.dropout))
    return steps, (side, side, block.filters)


class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """Keras's batch normalization by TensorFlow's fused operation: the same numbers in a seventh of the time.

    Keras's own takes about ten operations, each over a float32 copy of the maps. `inference_copy`
    replaces this layer by Keras's own, with the same weights.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's moments in training, else by the moving ones."""
        learning = bool(training) and self.trainable
        nothing = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=nothing if learning else tf.convert_to_tensor(self.moving_mean),
            variance=nothing if learning else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
            variance *= (count - 1) / count  # undoes Bessel's correction, which Keras does not apply
            for moving, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + current * (1 - self.momentum))
        return outputs


def _convolution(block: Block, strides: int, activation: str | None, l2: float) -> Any:
    arguments: dict[str, Any] = {
        "strides": strides,
        "padding": "same",
        "activation": activation,
        "use_bias": not block.batch_norm,
    }
    if block.separable:
        arguments |= {"depthwise_regularizer": _penalty(l2), "pointwise_regularizer": _penalty(l2)}
        return layers.SeparableConv2D(block.filters, block.kernel_size, **arguments)
    return layers.Conv2D(block.filters, block.kernel_size, kernel_regularizer=_penalty(l2), **arguments)


def _penalty(l2: float) -> Any:
    return keras.regularizers.L2(l2) if l2 else None


def _head(head: Head, l2: float) -> list[Any]:
    pooling = {
        "flatten": layers.Flatten,
        "global_average": layers.GlobalAveragePooling2D,
        "global_max": layers.GlobalMaxPool2D,
    }
    steps: list[Any] = [pooling[head.pooling]()]
    for units in head.units:
        steps.append(layers.Dense(units, activation="relu", kernel_regularizer=_penalty(l2)))
        if head.dropout:
            steps.append(layers.Dropout(head.dropout))
    if head.dropout and not head.units:
        steps.append(layers.Dropout(head.dropout))
    steps.append(layers.Dense(1, activation="sigmoid", dtype="float32", kernel_regularizer=_penalty(l2)))
    return steps


def compile_net(net: Any, recipe: Recipe, steps_per_epoch: int) -> None:
    """Give the net its optimizer, its loss (binary cross-entropy) and its metric (binary accuracy)."""
    total = steps_per_epoch * recipe.epochs
    net.compile(
        optimizer=_optimizer(recipe.optimizer, recipe.schedule, total),
        loss="binary_crossentropy",
        metrics=[keras.metrics.MeanMetricWrapper(_hard_accuracy, name="binary_accuracy")],
    )


def _hard_accuracy(labels: Any, probability: Any) -> Any:
    """Keras's binary accuracy, also for smoothed or mixed labels: the nearer class is the true one."""
    return keras.ops.cast(keras.ops.equal(labels > THRESHOLD, probability > THRESHOLD), "float32")


def _optimizer(optimizer: Optimizer, schedule: Schedule, total: int) -> Any:
    rate = optimizer.learning_rate
    rising = round(schedule.rising * total)
    arguments: dict[str, Any] = dict(optimizer.arguments)
    if schedule.name != "constant" or rising:
        arguments["learning_rate"] = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=rate / 25 if rising else rate,
            warmup_target=rate if rising else None,
            warmup_steps=rising,
            decay_steps=max(1, total - rising),
            alpha=1.0 if schedule.name == "constant" else 0.0,
        )
    optimizers = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "muon": Muon,
        "nadam": keras.optimizers.Nadam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    return optimizers[optimizer.name](**arguments)


def inference_copy(net: Any) -> Any:
    """A copy with the same layers and weights, but Keras's own classes alone, and no optimizer, loss or penalty."""
    config = net.get_config()
    _strip(config)
    copy = type(net).from_config(config)
    copy.set_weights(net.get_weights())
    return copy


def _strip(config: Any) -> None:
    """Take the penalties out of a model's configuration, and put Keras's class in for ours."""
    if isinstance(config, dict):
        if config.get("module") == __name__:  # BatchNormalization
            config |= {"module": "keras.layers", "registered_name": None}
        for key, value in config.items():
            if key.endswith("_regularizer"):
                config[key] = None
            else:
                _strip(value)
    elif isinstance(config, list):
        for value in config:
            _strip(value)
