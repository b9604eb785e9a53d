"""Muon for convnets: steps of even strength in all directions of a convolution kernel."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon for the convolution kernels, AdamW for everything else.

    Keras's Muon orthogonalizes matrices and leaves kernels to AdamW. Here a kernel [h, w, in, out] is
    the matrix [h * w * in, out], as in https://kellerjordan.github.io/posts/muon/, and dense kernels,
    which are heads, are AdamW's. Three Newton-Schulz iterations, in the net's precision, train as well
    as Keras's five.
    """

    def __init__(self, learning_rate: Any, momentum: float = 0.95, weight_decay: float = 0.004) -> None:
        super().__init__(
            learning_rate, momentum=momentum, weight_decay=weight_decay, adam_weight_decay=weight_decay, ns_steps=3
        )

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 4 or variable.shape[-1] == 1  # one column: a depthwise kernel

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """The nearest matrix to `x`, [..., out], whose columns are orthonormal, roughly."""
        matrix = ops.cast(ops.reshape(x, (-1, x.shape[-1])), keras.config.dtype_policy().compute_dtype)
        matrix = super().zeropower_via_newtonschulz5(matrix, steps)
        return ops.cast(ops.reshape(matrix, x.shape), x.dtype)

    def lr_adjust(self, x: Any) -> Any:
        """Scaled to the size of an AdamW step, as in https://arxiv.org/abs/2502.16982."""
        return x * math.sqrt(max(math.prod(x.shape[:-1]), x.shape[-1])) * self.rms_rate
