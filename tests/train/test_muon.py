"""What a step of Muon does to each kind of variable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from car_or_truck.train import runtime

RATE = 0.01


@pytest.fixture(params=["float32", "mixed_bfloat16"], scope="module", autouse=True)
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    yield runtime.start(0, request.param)
    runtime.start(0, "float32")


def stepped(optimizer: Any, gradient: np.ndarray[Any, Any], steps: int = 1) -> np.ndarray[Any, Any]:
    """What `steps` steps along the same gradient add to a variable of zeros."""
    import keras

    variable = keras.Variable(np.zeros(gradient.shape, np.float32))
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(variable)


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 1, 8, 32)])
def test_a_convolution_kernel_moves_evenly_in_all_directions(shape: tuple[int, ...]) -> None:
    from car_or_truck.train.muon import Muon

    rng = np.random.default_rng(7)
    inputs, outputs = int(np.prod(shape[:-1])), shape[-1]
    uneven = rng.normal(size=(inputs, outputs)) @ np.diag(np.geomspace(1, 0.1, outputs))
    gradient = uneven.reshape(shape).astype(np.float32)
    step = -stepped(Muon(RATE), gradient).reshape(inputs, outputs)

    strengths = np.linalg.svd(step, compute_uv=False) / (0.2 * RATE * np.sqrt(max(inputs, outputs)))
    assert 0.4 < strengths.min() <= strengths.max() < 1.3  # of the gradient: a factor of more than 10
    assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * RATE, rel=0.3)  # AdamW's steps are about as large
    left, _, right = np.linalg.svd(uneven, full_matrices=False)
    assert np.vdot(step, left @ right) / np.linalg.norm(step) / np.sqrt(min(inputs, outputs)) > 0.95


@pytest.mark.parametrize("shape", [(5,), (6, 4), (3, 3, 8, 1)])  # of a bias, a dense and a depthwise layer
def test_other_variables_take_steps_of_adamw(shape: tuple[int, ...]) -> None:
    import keras

    from car_or_truck.train.muon import Muon

    gradient = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    expected = stepped(keras.optimizers.AdamW(RATE, weight_decay=0.1), gradient, steps=3)
    assert stepped(Muon(RATE, weight_decay=0.1), gradient, steps=3) == pytest.approx(expected, rel=1e-4)


def test_weights_decay_alike_in_all_variables() -> None:
    import keras

    from car_or_truck.train.muon import Muon

    variables = [keras.Variable(np.ones(shape, np.float32)) for shape in ((3, 3, 2, 4), (6, 4), (5,))]
    Muon(RATE, weight_decay=0.5).apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    for variable in variables:
        assert np.asarray(variable) == pytest.approx(1 - RATE * 0.5)
