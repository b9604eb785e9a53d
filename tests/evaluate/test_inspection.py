from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from car_or_truck.evaluate.figures import Predictions
from car_or_truck.train import runtime
from helpers.nets import VARIANTS, built, recipe, split


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    runtime.start(0, "float32")


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([{"filters": 4}], 32 * 32 * 9 * 3 * 4 + 16 * 16 * 4 * 3 + 3),
        ([{"filters": 4, "strides": 2, "pool": "none"}], 16 * 16 * 9 * 3 * 4 + 16 * 16 * 4 * 3 + 3),
        ([{"filters": 4, "separable": True}], 32 * 32 * 3 * (9 + 4) + 16 * 16 * 4 * 3 + 3),
    ],
)
def test_multiply_adds_are_counted_as_by_hand(blocks: list[dict[str, Any]], expected: int) -> None:
    from car_or_truck.evaluate import inspection

    assert inspection.multiply_adds(built(blocks=blocks)) == expected


def test_multiply_adds_of_vgg16_are_the_published_ones() -> None:
    from car_or_truck.evaluate import inspection

    net = built(64, base={"application": "VGG16", "weights": None}, blocks=[], head={"pooling": "global_average"})
    published = 15_346_630_656  # its convolutions at 224 px (Simonyan and Zisserman 2014), which shrink with the area
    assert inspection.multiply_adds(net) == published * 64**2 // 224**2 + 512


def test_the_steps_of_a_net_have_the_shapes_and_parameters_of_its_summary() -> None:
    from car_or_truck.evaluate import inspection
    from car_or_truck.train import convnet

    steps = inspection.steps(convnet.build(VARIANTS["exercise"], 128))
    assert [(step.label.split("\n")[0], step.shape, step.parameters) for step in steps[:4]] == [
        ("input", (128, 128, 3), 0),
        ("conv 3x3", (128, 128, 32), 896),
        ("max pool", (64, 64, 32), 0),
        ("conv 3x3", (64, 64, 64), 18496),
    ]
    assert steps[-1] == ("Dense", "dense\nsigmoid", (1,), 7)


def test_feature_maps_are_filter_detect_and_condense() -> None:
    from car_or_truck.evaluate import inspection

    net = built(blocks=[{"filters": 4}, {"filters": 5, "pool": "average"}])
    image = np.random.default_rng(0).random((32, 32, 3), np.float32)
    first, second = inspection.feature_maps(net, image)
    np.testing.assert_allclose(first.detected, np.maximum(first.filtered, 0))
    assert first.filtered.min() < 0
    assert first.detected.shape == (32, 32, 4)
    assert first.condensed is not None
    np.testing.assert_allclose(first.condensed, first.detected.reshape(16, 2, 16, 2, 4).max(axis=(1, 3)), atol=1e-5)
    assert second.condensed is not None
    np.testing.assert_allclose(second.condensed, second.detected.reshape(8, 2, 8, 2, 5).mean(axis=(1, 3)), atol=1e-5)


@pytest.mark.parametrize(
    "blocks",
    [
        [{"filters": 4, "convs": 2}],
        [{"filters": 4, "convs": 2, "batch_norm": True}],
        [{"filters": 4, "convs": 2, "residual": True}],
        [{"filters": 4, "pool": "none"}, {"filters": 4}],
    ],
)
def test_a_pool_behind_another_convolution_is_not_shown_as_that_of_the_first(blocks: list[dict[str, Any]]) -> None:
    from car_or_truck.evaluate import inspection

    (maps,) = inspection.feature_maps(built(blocks=blocks), np.ones((32, 32, 3), np.float32))
    assert maps.condensed is None


@pytest.mark.parametrize(
    "blocks",
    [
        [{"filters": 8, "pool": "none"}, {"filters": 2}],  # the next pool is of another block
        [{"filters": 4, "dropout": 0.2}, {"filters": 5}],
        [{"filters": 4, "separable": True}, {"filters": 5, "separable": True}],
    ],
)
def test_the_maps_of_a_block_are_its_own(blocks: list[dict[str, Any]]) -> None:
    from car_or_truck.evaluate import inspection

    block_maps = inspection.feature_maps(built(blocks=blocks), np.random.default_rng(0).random((32, 32, 3), np.float32))
    assert [maps.detected.shape[-1] for maps in block_maps] == [block["filters"] for block in blocks][: len(block_maps)]
    assert len(block_maps) == (1 if "pool" in blocks[0] else 2)
    assert all(maps.condensed is None or maps.condensed.shape[-1] == maps.detected.shape[-1] for maps in block_maps)


@pytest.mark.parametrize("weight", [0, 1e20], ids=["dead", "exploded"])
def test_a_dead_or_exploded_net_looks_nowhere(weight: float) -> None:
    from car_or_truck.evaluate import figures, inspection

    net = built(blocks=[{"filters": 4}])
    net.set_weights([np.full_like(weights, weight) for weights in net.get_weights()])
    looks = inspection.heat_on_bars(net, np.pad(np.ones((2, 20, 32, 3), np.float32), ((0, 0), (6, 6), (0, 0), (0, 0))))
    assert (looks.heat_on_bars, looks.bars) == (None, 0.375)
    assert figures.looks_sentence(*looks).startswith("looks nowhere")


def test_what_a_batch_norm_does_to_the_maps_is_shown() -> None:
    from car_or_truck.evaluate import inspection

    for residual in (False, True):
        net = built(blocks=[{"filters": 4, "batch_norm": True, "residual": residual}])
        norm = next(layer for layer in net.layers if "batch_normalization" in layer.name)
        norm.set_weights([np.ones(4), np.full(4, 0.5), np.full(4, 0.1), np.ones(4)])
        (first,) = inspection.feature_maps(net, np.random.default_rng(0).random((32, 32, 3), np.float32))
        assert first.detected.min() >= 0
        assert first.condensed is not None
        pooled = first.detected.reshape(16, 2, 16, 2, 4).max(axis=(1, 3))
        np.testing.assert_allclose(first.condensed, pooled, atol=1e-6)


def test_grad_cam_finds_the_corner_that_decides() -> None:
    from car_or_truck.evaluate import inspection

    net = built(16, blocks=[{"filters": 1, "pool": "none"}], head={"pooling": "flatten"})
    convolution, dense = net.layers[0], net.layers[-1]
    convolution.set_weights([np.ones((3, 3, 3, 1)), np.zeros(1)])
    weights = np.zeros((16, 16))
    weights[:4, :4] = 1.0  # only the upper left corner counts
    dense.set_weights([weights.reshape(-1, 1), np.zeros(1)])
    image = np.zeros((1, 16, 16, 3), np.float32)
    image[0, :4, :4] = 1.0
    cam = inspection.grad_cam(net, image)[0]
    assert cam.shape == (16, 16)
    assert cam[:4, :4].min() > 0.3
    assert cam[8:, 8:].max() == 0
    assert cam.max() == 1


def test_heat_on_the_letterbox_bars_is_measured() -> None:
    from car_or_truck.evaluate import inspection

    net = built(16, blocks=[{"filters": 1, "pool": "none"}], head={"pooling": "flatten"})
    net.layers[0].set_weights([np.zeros((3, 3, 3, 1)), np.ones(1)])  # the same everywhere
    weights = np.zeros((16, 16))
    weights[:, :4] = 1.0
    net.layers[-1].set_weights([weights.reshape(-1, 1), np.zeros(1)])
    image = np.full((1, 16, 16, 3), 0.5, np.float32)
    image[0, :4] = image[0, -2:] = 0.0
    image[0, 8, 8] = 0.0  # a black pixel of the picture
    looks = inspection.heat_on_bars(net, image)
    assert looks.bars == looks.heat_on_bars == 6 / 16
    assert inspection.heat_on_bars(net, image + 0.5).bars == 0


def test_a_convolution_its_batch_norm_and_its_activation_are_one_slab() -> None:
    from car_or_truck.evaluate import inspection, inspection_figures

    steps = inspection.steps(built(blocks=[{"filters": 4, "batch_norm": True}]))
    merged = inspection_figures.merged(steps)
    assert [step.label.split("\n")[0] for step in merged[:3]] == ["input", "conv 3x3", "max pool"]
    assert merged[1].label == "conv 3x3\nbatch norm\nrelu"
    assert sum(step.parameters for step in merged) == sum(step.parameters for step in steps)


NETS: list[dict[str, Any]] = [
    {},
    {"blocks": [{"filters": 4, "residual": True, "batch_norm": True}, {"filters": 6, "separable": True}]},
    {"blocks": [{"filters": 4, "pool": "none", "dropout": 0.1}], "head": {"pooling": "global_max"}},
    {"base": {"application": "MobileNetV2", "weights": None}, "blocks": [], "head": {"pooling": "global_average"}},
]


@pytest.mark.parametrize("changes", [*NETS[:-1], pytest.param(NETS[-1], marks=pytest.mark.slow)])
def test_every_kind_of_net_can_be_looked_into(changes: dict[str, Any], tmp_path: Path) -> None:
    from car_or_truck.evaluate import inspection, inspection_figures
    from car_or_truck.train import convnet

    part = split(12, 32)
    net = convnet.inference_copy(built(**changes))
    probability = net.predict(part.images.astype(np.float32) / 255, verbose=0)[:, 0]
    table = pd.DataFrame({"name": [f"{number}.png" for number in range(12)], "label": part.labels})
    valid = Predictions("net", ("Car", "Truck"), part.images, table.assign(probability=probability.astype(float)))
    looks = inspection_figures.draw(net, valid, tmp_path)
    assert looks.heat_on_bars is not None
    assert 0 <= looks.heat_on_bars <= 1
    drawn = {path.name for path in tmp_path.iterdir()}
    assert {"architecture.png", "architecture.svg", "grad_cam.png", "summary.txt"} <= drawn
    assert (tmp_path / "summary.txt").read_text() == inspection.summary(net)


def test_the_summary_is_as_wide_in_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from car_or_truck.evaluate import inspection
    from car_or_truck.train import convnet

    net, texts = convnet.build(recipe(), 32), set()
    for width in ("60", "200"):
        monkeypatch.setenv("COLUMNS", width)
        texts.add(inspection.summary(net))
    (text,) = texts
    assert "Total params" in text
