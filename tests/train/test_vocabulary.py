"""Every word of `variants:`: what it builds, what it changes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from car_or_truck.errors import Failure
from car_or_truck.files import sha256
from car_or_truck.train import augment, batches, runtime
from car_or_truck.train.recipe import APPLICATIONS, Augment, Recipe
from helpers.nets import PLAIN, built, fitted, recipe, split


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    runtime.start(0, "float32")


def kinds(net: Any) -> list[str]:
    return [type(layer).__name__ for layer in net.layers]


@pytest.mark.parametrize(
    ("block", "layers"),
    [
        ({}, ["Conv2D", "MaxPooling2D"]),
        ({"convs": 2, "pool": "average"}, ["Conv2D", "Conv2D", "AveragePooling2D"]),
        ({"pool": "none", "dropout": 0.1}, ["Conv2D", "Dropout"]),
        ({"batch_norm": True}, ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]),
        ({"separable": True, "activation": "gelu"}, ["SeparableConv2D", "MaxPooling2D"]),
    ],
)
def test_a_blocks_words_are_layers_in_their_order(block: dict[str, Any], layers: list[str]) -> None:
    assert kinds(built(blocks=[{"filters": 4, **block}]))[: len(layers)] == layers


def test_strides_halve_and_a_bias_gives_way_to_batch_norm() -> None:
    net = built(blocks=[{"filters": 4, "strides": 2, "convs": 2, "batch_norm": True, "pool": "none"}])
    assert net.layers[0].output.shape == (None, 16, 16, 4)
    assert net.layers[3].output.shape == (None, 16, 16, 4)
    assert not net.layers[0].use_bias


def test_a_residual_block_adds_its_input_projected_where_shapes_differ() -> None:
    same = built(blocks=[{"filters": 4, "pool": "none"}, {"filters": 4, "residual": True, "convs": 2, "pool": "none"}])
    assert kinds(same).count("Conv2D") == 3
    assert "Add" in kinds(same)
    wider = built(blocks=[{"filters": 8, "residual": True, "strides": 2, "batch_norm": True}])
    assert kinds(wider).count("Conv2D") == 2  # one of them the projection
    zeroed = built(blocks=[{"filters": 3, "residual": True, "pool": "none"}])
    zeroed.layers[1].set_weights([np.zeros_like(weight) for weight in zeroed.layers[1].get_weights()])
    import keras

    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    after = keras.Model(zeroed.inputs, zeroed.layers[-4].output)
    np.testing.assert_allclose(after.predict(image, verbose=0), image, rtol=1e-6)


@pytest.mark.parametrize(("count", "precision"), [(8, "float32"), (5, "mixed_bfloat16")])
def test_batch_norm_is_kerass_own_in_one_operation(count: int, precision: str) -> None:
    import keras
    import tensorflow as tf

    from car_or_truck.train.convnet import BatchNormalization

    draw = np.random.default_rng(0)
    policy = keras.DTypePolicy(precision)
    ours, keras_own = (kind(dtype=policy) for kind in (BatchNormalization, keras.layers.BatchNormalization))
    maps = tf.cast(draw.normal(3.0, 2.0, (count, 6, 6, 4)), policy.compute_dtype)
    weights = [draw.random(4, np.float32) for _ in range(4)]
    results = []
    for layer in (ours, keras_own):
        layer.build(maps.shape)
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            learning = layer(maps, training=True)
            loss = tf.reduce_sum(tf.sin(tf.cast(learning, tf.float32)))
        gradients = tape.gradient(loss, [maps, *layer.trainable_variables])
        results.append([learning, layer(maps, training=False), *gradients, *layer.get_weights()])
    loose = 1e-4 if precision == "float32" else 0.05  # bfloat16 has three digits
    for value, expected in zip(*results, strict=True):
        np.testing.assert_allclose(tf.cast(value, tf.float32), tf.cast(expected, tf.float32), rtol=loose, atol=loose)
    for weight, expected in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_a_net_with_batch_norm_is_saved_with_kerass_own_alone(tmp_path: Any) -> None:
    import keras

    from car_or_truck.train import convnet
    from car_or_truck.train.fit import save

    part = split(16, 32)
    net = fitted(recipe(blocks=[{"filters": 4, "batch_norm": True}, {"filters": 4, "residual": True}]), part)[0]
    save(convnet.inference_copy(net), tmp_path / "model.keras")
    loaded_net = keras.saving.load_model(tmp_path / "model.keras")
    assert {type(layer).__module__.split(".")[0] for layer in loaded_net.layers} == {"keras"}
    dataset = batches.in_order(part, 8)
    np.testing.assert_allclose(loaded_net.predict(dataset), net.predict(dataset), rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "layers"),
    [
        ({"units": 6}, ["Flatten", "Dense", "Dense"]),
        ({"pooling": "global_average"}, ["GlobalAveragePooling2D", "Dense"]),
        ({"pooling": "global_max", "dropout": 0.5}, ["GlobalMaxPooling2D", "Dropout", "Dense"]),
        ({"units": [8, 4], "dropout": 0.1}, ["Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense"]),
    ],
)
def test_a_heads_words_are_layers_in_their_order(head: dict[str, Any], layers: list[str]) -> None:
    assert kinds(built(head=head))[-len(layers) :] == layers


def test_the_learning_rate_follows_its_schedule() -> None:
    from car_or_truck.train import convnet

    def rates(**schedule: Any) -> list[float]:
        chosen = recipe(epochs=10, optimizer={"name": "sgd", "learning_rate": 1.0}, schedule=schedule)
        net = convnet.build(chosen, 16)
        convnet.compile_net(net, chosen, 10)
        values = []
        for step in range(0, 101, 10):
            net.optimizer.iterations.assign(step)
            values.append(float(net.optimizer.learning_rate))
        return values

    assert rates(name="constant") == [1.0] * 11
    cosine = rates(name="cosine")
    assert cosine == pytest.approx([(1 + np.cos(np.pi * step / 10)) / 2 for step in range(11)], abs=1e-6)
    cycle = rates(name="one_cycle")
    assert cycle[0] == pytest.approx(0.04)
    assert cycle[3] == pytest.approx(max(cycle)) == pytest.approx(1.0)
    assert cycle[-1] == pytest.approx(0.0, abs=1e-6)
    warm = rates(name="constant", warm_up=0.5)
    assert warm[:6] == sorted(warm[:6])
    assert warm[5:] == pytest.approx([1.0] * 6)


def streamed(part: batches.Split, epochs: int = 1, seed: int = 3, **changes: Any) -> list[tuple[Any, ...]]:
    chosen = recipe(epochs=epochs, **changes)
    order = np.tile(np.arange(len(part), dtype=np.int32), (epochs, 1))
    change = batches.training_change(chosen, part.labels, seed)
    return [tuple(item.numpy() for item in batch) for batch in batches.stream(part, order, 8, change)]


WORDS: list[dict[str, Any]] = [
    {"flip": True},
    {"shift": 0.2},
    {"rotate": 20.0},
    {"zoom": 0.3},
    {"contrast": 0.5},
    {"brightness": 0.3},
    {"erase": 0.5},
]


@pytest.mark.parametrize("augment", [*WORDS, {key: value for word in WORDS for key, value in word.items()}])
def test_augmentation_changes_pictures_anew_each_epoch_and_keeps_labels(augment: dict[str, Any]) -> None:
    part = split(16, 32)
    first, second = (streamed(part, epochs=2, augment=augment) for _ in range(2))
    plain = streamed(part, epochs=2)
    for batch, second_batch, original in zip(first, second, plain, strict=True):
        assert np.array_equal(batch[0], second_batch[0])  # the same seed changes them in the same way
        assert np.array_equal(batch[1], original[1])
        assert batch[0].min() >= 0
        assert batch[0].max() <= 1 + 1e-6
    changed = [
        not np.array_equal(a, b)
        for batch, original in zip(first, plain, strict=True)
        for a, b in zip(batch[0], original[0], strict=True)
    ]
    assert sum(changed) > len(changed) / 4
    assert not np.array_equal(first[0][0], first[2][0])  # the second epoch differs from the first
    assert not np.array_equal(first[0][0], streamed(part, seed=4, augment=augment)[0][0])


def test_a_flip_is_exactly_a_mirror_image() -> None:
    part = split(16, 32)
    changed, plain = (
        np.concatenate([batch[0] for batch in streamed(part, augment=augment)]) for augment in ({"flip": True}, {})
    )
    same = (changed == plain).all(axis=(1, 2, 3))
    mirrored = (changed == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same != mirrored).all()
    assert 0 < mirrored.sum() < len(part)


@pytest.mark.parametrize("nothing", [{"rotate": 1e-4}, {"zoom": 1e-6}])
def test_a_rotation_by_nothing_and_a_zoom_by_nothing_leave_the_picture(nothing: dict[str, float]) -> None:
    part = split(8, 32)
    (moved,), (plain,) = streamed(part, augment=nothing), streamed(part)
    np.testing.assert_allclose(moved[0], plain[0], atol=1e-3)


def changed(image: Any, **settings: float) -> Any:
    """A hundred copies of an image [h, w, 3], each changed by other random numbers."""
    images = np.repeat(image.astype(np.float32)[None], 100, axis=0)
    return augment.augment(images, np.zeros((100, 1)), Augment.model_validate(settings), (7, 0))[0].numpy()


def dots(**settings: float) -> tuple[Any, Any]:
    """Where a white dot, 16 pixels right of the centre of 65 x 65, comes to lie: (right, down) of the centre."""
    image = np.zeros((65, 65, 3))
    image[31:34, 47:50] = 1
    mass = changed(image, **settings).mean(axis=-1)
    offsets = np.arange(65) - 32
    right, down = ((mass.sum(axis=axis) * offsets).sum(axis=1) / mass.sum(axis=(1, 2)) for axis in (1, 2))
    return right, down


def spans(values: Any, low: float, high: float) -> bool:
    """Whether values fill an interval, and do not leave it by more than a fiftieth."""
    slack = (high - low) / 50
    return bool(low - slack <= values.min() < low + 5 * slack and high - 5 * slack < values.max() <= high + slack)


def test_shift_is_a_share_of_the_side() -> None:
    right, down = dots(shift=0.1)
    assert spans(right - 16, -6.5, 6.5)
    assert spans(down, -6.5, 6.5)


def test_rotate_is_in_degrees_about_the_centre() -> None:
    right, down = dots(rotate=30.0)
    assert spans(np.degrees(np.arctan2(down, right)), -30, 30)
    np.testing.assert_allclose(np.hypot(right, down), 16, atol=0.2)


def test_zoom_scales_about_the_centre() -> None:
    right, down = dots(zoom=0.25)
    assert spans(right, 12, 20)
    np.testing.assert_allclose(down, 0, atol=0.1)


def test_contrast_scales_about_the_mean_and_brightness_adds_to_it() -> None:
    image = np.random.default_rng(0).uniform(0.4, 0.6, (32, 32, 3))
    contrasts, lit = changed(image, contrast=0.5), changed(image, brightness=0.2)
    np.testing.assert_allclose(contrasts.mean(axis=(1, 2, 3)), image.mean(), atol=1e-4)
    assert spans(contrasts.std(axis=(1, 2, 3)) / image.std(), 0.5, 1.5)
    assert spans(lit.mean(axis=(1, 2, 3)) - image.mean(), -0.2, 0.2)
    np.testing.assert_allclose(lit.std(axis=(1, 2, 3)), image.std(), rtol=1e-4)


def test_erase_puts_a_grey_square_up_to_that_share_of_the_side() -> None:
    erased = changed(np.zeros((40, 40, 3)), erase=0.5)
    assert set(np.unique(erased)) == {0.0, 0.5}
    heights, widths = ((erased[..., 0] > 0).any(axis=axis).sum(axis=1) for axis in (2, 1))
    assert 15 < heights.max() <= 20
    assert 15 < widths.max() <= 20
    assert ((erased[..., 0] > 0).sum(axis=(1, 2)) == heights * widths).all()


def test_mixup_blends_pictures_and_labels_alike() -> None:
    pixels = np.zeros((8, 16, 16, 3), np.uint8)
    pixels[::2] = 255
    part = batches.Split(pixels, np.array([1, 0] * 4, np.uint8))
    ((images, labels),) = streamed(part, augment={"mixup": 1.0})
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), labels[:, 0], atol=1e-5)
    assert ((labels > 0.5)[:, 0] == part.labels.astype(bool)).all()  # the nearer class stays the true one
    assert ((labels > 0.01) & (labels < 0.99)).any()


def test_smoothed_labels_and_balanced_weights_are_what_they_say() -> None:
    part = batches.Split(np.zeros((8, 16, 16, 3), np.uint8), np.array([1, 0, 0, 0] * 2, np.uint8))
    ((_, labels, weights),) = streamed(part, loss={"label_smoothing": 0.1}, class_weight="balanced")
    assert labels[:, 0] == pytest.approx(np.where(part.labels, 0.95, 0.05))
    assert weights[part.labels == 1].sum() == pytest.approx(weights[part.labels == 0].sum())
    assert weights.mean() == pytest.approx(1.0)


def test_valid_is_never_changed() -> None:
    part = split(16, 32)
    chosen = {"augment": {"flip": True, "erase": 0.5, "mixup": 0.4}, "loss": {"label_smoothing": 0.2}, "l2": 0.01}
    net, history, _ = fitted(recipe(epochs=2, class_weight="balanced", **chosen), part)
    from car_or_truck.train import convnet

    inference_net = convnet.inference_copy(net)
    inference_net.compile(loss="binary_crossentropy", metrics=["binary_accuracy"])
    scores = inference_net.evaluate(batches.in_order(split(8, 32, "valid"), 8), return_dict=True, verbose=0)
    assert scores["loss"] == pytest.approx(history["val_loss"].iloc[-1], rel=1e-5)  # neither smoothing nor penalty
    assert scores["binary_accuracy"] == pytest.approx(history["val_binary_accuracy"].iloc[-1])


def test_every_word_at_once_trains_and_repeats() -> None:
    chosen = recipe(
        epochs=2,
        image_size=24,
        blocks=[
            {"filters": 4, "batch_norm": True, "activation": "silu", "dropout": 0.1},
            {"filters": 6, "residual": True, "separable": True, "convs": 2, "strides": 2, "pool": "none"},
        ],
        head={"pooling": "global_average", "units": [5], "dropout": 0.2},
        augment={key: value for word in WORDS for key, value in word.items()} | {"mixup": 0.2},
        schedule={"name": "one_cycle"},
        l2=1e-4,
        shuffle="each_epoch",
        class_weight="balanced",
        optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    )
    part = split(24, 24)
    histories = [fitted(chosen, part)[1] for _ in range(2)]
    assert histories[0].equals(histories[1])


def test_early_stopping_ends_the_training_and_the_history() -> None:
    chosen = recipe(epochs=30, early_stopping={"patience": 1}, optimizer={"name": "sgd", "learning_rate": 3.0})
    _, history, kept_epoch = fitted(chosen, split(24, 32))
    assert kept_epoch == len(history) < 30


def test_a_smaller_side_is_the_mean_of_what_it_covers(tmp_path: Any) -> None:
    part = split(3, 32)
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train/images.npy", part.images)
    np.save(tmp_path / "train/labels.npy", part.labels)
    half = batches.load(tmp_path, "train", 16).images
    expected = part.images.reshape(3, 16, 2, 16, 2, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_allclose(half, expected, atol=0.51)
    assert batches.load(tmp_path, "train", 48).images.shape == (3, 48, 48, 3)


block = st.fixed_dictionaries(
    {"filters": st.integers(1, 6)},
    optional={
        "kernel_size": st.integers(1, 5),
        "convs": st.integers(1, 2),
        "strides": st.integers(1, 2),
        "activation": st.sampled_from(["relu", "elu", "gelu", "silu", "tanh", "leaky_relu"]),
        "batch_norm": st.booleans(),
        "residual": st.booleans(),
        "separable": st.booleans(),
        "pool": st.sampled_from(["max", "average", "none"]),
        "dropout": st.sampled_from([0.0, 0.3]),
    },
).filter(lambda block: not (block.get("batch_norm") and block.get("activation") == "tanh"))  # refused, see below


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(blocks=st.lists(block, min_size=1, max_size=3), side=st.integers(16, 33))
def test_any_valid_net_builds_with_the_shapes_that_were_computed(blocks: list[dict[str, Any]], side: int) -> None:
    chosen = recipe(blocks=blocks, head={"pooling": "flatten"}, image_size=side)
    sides = chosen.map_sides(128)
    assume(0 not in sides)  # params.py refuses it
    net = built(blocks=blocks, head={"pooling": "flatten"}, image_size=side)
    assert net.layers[-2].output.shape == (None, sides[-1] ** 2 * blocks[-1]["filters"])
    probability = np.asarray(net(np.random.default_rng(0).random((2, side, side, 3), np.float32)))
    assert probability.shape == (2, 1)
    assert ((probability >= 0) & (probability <= 1)).all()


wrong = [
    ("blocks.0.pool", "maximum"),
    ("blocks.0.strides", 0),
    ("blocks.0.activation", "rleu"),
    ("head.pooling", "mean"),
    ("head.units", [0]),
    ("head.units", 6.5),
    ("augment.flip", "yes"),
    ("augment.rotate", 181.0),
    ("augment.mixup", -1.0),
    ("schedule.name", "linear"),
    ("schedule.warm_up", 1.0),
    ("loss.label_smoothing", 1.0),
    ("class_weight", "equal"),
    ("l2", -0.1),
    ("early_stopping.patience", 0),
    ("image_size", 4),
    ("base.application", "VGG17"),
]


@pytest.mark.parametrize(("path", "value"), wrong)
def test_an_impossible_word_is_refused_by_its_key(path: str, value: Any) -> None:
    tree: dict[str, Any] = PLAIN | {"blocks": [dict(PLAIN["blocks"][0])], "head": dict(PLAIN["head"])}
    node: Any = tree
    *parents, key = path.split(".")
    for parent in parents:
        node = node[int(parent)] if parent.isdigit() else node.setdefault(parent, {})
    node[key] = value
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(tree)
    keys = {".".join(str(part) for part in detail["loc"]) for detail in caught.value.errors()}
    assert any(name.startswith(path) for name in keys)


def test_a_block_that_tensorflow_cannot_run_is_refused() -> None:
    with pytest.raises(ValidationError, match="TensorFlow cannot run activation tanh after batch_norm"):
        recipe(blocks=[{"filters": 4, "batch_norm": True, "activation": "tanh"}])


def test_a_net_needs_blocks_or_a_base() -> None:
    with pytest.raises(ValidationError, match="a variant needs blocks, a base, or both"):
        recipe(blocks=[])


def test_the_applications_are_kerass_own() -> None:
    import inspect
    import sys

    import keras

    for name in APPLICATIONS:
        assert hasattr(sys.modules[getattr(keras.applications, name).__module__], "preprocess_input")
    # MobileNetV3 is only the two's common ground
    theirs = {name for name, value in vars(keras.applications).items() if inspect.isfunction(value)}
    assert theirs == set(APPLICATIONS)


TOP = {"head": {"units": 6}, "blocks": []}


def test_vgg16_has_the_lessons_counts() -> None:
    net = built(128, base={"application": "VGG16", "weights": None}, **TOP)
    assert net.get_layer("features").count_params() == 14_714_688
    assert sum(int(np.prod(weight.shape)) for weight in net.trainable_weights) == 49_165


def test_a_base_sees_its_own_preprocessing() -> None:
    import keras

    net = built(32, base={"application": "VGG16", "weights": None}, **TOP)
    image = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    inner = next(layer for layer in net.get_layer("features").layers if layer.name == "vgg16")
    expected = inner.predict(keras.applications.vgg16.preprocess_input(image * 255), verbose=0)
    features = net.get_layer("features").predict(image, verbose=0)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("VGG16", "global_average"),
        pytest.param("MobileNetV2", "flatten", marks=pytest.mark.slow),  # with batch norm, and many layers
    ],
)
def test_a_frozen_base_is_computed_once_and_gives_the_same_net(name: str, pooling: str, tmp_path: Any) -> None:
    import keras

    from car_or_truck.train import convnet
    from car_or_truck.train.fit import save

    chosen = recipe(
        base={"application": name, "weights": None}, blocks=[], head={"pooling": pooling, "units": 4}, epochs=2
    )
    part, valid = split(16, 32), split(8, 32, "valid")
    before = convnet.build(chosen, 32).get_layer("features").count_params()
    net, history, _ = fitted(chosen, part)
    assert net.get_layer("features").count_params() == before
    inference_net = convnet.inference_copy(net)
    save(inference_net, tmp_path / "model.keras")
    loaded_net = keras.saving.load_model(tmp_path / "model.keras")
    loaded_net.compile(loss="binary_crossentropy", metrics=["binary_accuracy"])
    scores = loaded_net.evaluate(batches.in_order(valid, 8), return_dict=True, verbose=0)
    assert scores["loss"] == pytest.approx(history["val_loss"].iloc[-1], rel=1e-4)


def test_a_base_trained_from_a_layer_on_trains_those_alone() -> None:
    net = built(32, base={"application": "VGG16", "weights": None, "trainable": "block5_conv1"}, **TOP)
    inner = next(layer for layer in net.get_layer("features").layers if layer.name == "vgg16")
    assert [layer.name for layer in inner.layers if layer.trainable and layer.weights] == [
        "block5_conv1",
        "block5_conv2",
        "block5_conv3",
    ]
    with pytest.raises(Failure, match=r"base.trainable is 'block9', but VGG16 has no such layer"):
        built(32, base={"application": "VGG16", "weights": None, "trainable": "block9"}, **TOP)


def test_weights_from_a_file_are_used_and_wrong_ones_refused(tmp_path: Any) -> None:
    import keras

    source = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "mine.weights.h5"
    source.save_weights(path)
    checked = {"weights": str(path), "sha256": sha256(path)}
    net = built(32, base={"application": "VGG16", **checked}, **TOP)
    inner = next(layer for layer in net.get_layer("features").layers if layer.name == "vgg16")
    assert all(np.array_equal(a, b) for a, b in zip(inner.get_weights(), source.get_weights(), strict=True))
    with pytest.raises(Failure, match=r"VGG19 cannot be built with base.weights '.*mine.weights.h5': "):
        built(32, base={"application": "VGG19", **checked}, **TOP)


def test_imagenet_weights_out_of_reach_name_the_file_and_both_ways(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    import keras

    monkeypatch.setattr(keras.config, "keras_home", lambda: str(tmp_path), raising=False)
    monkeypatch.setattr(
        keras.src.applications.vgg16,
        "WEIGHTS_PATH_NO_TOP",
        "http://127.0.0.1:9/vgg16_weights_notop.h5",
    )
    with pytest.raises(Failure, match=r"VGG16 cannot be downloaded, and .*/vgg16_weights_notop.h5 .* or download http"):
        built(32, base={"application": "VGG16", "weights": "imagenet"}, **TOP)


def test_the_defaults_change_nothing() -> None:
    part = split(16, 32)
    assert batches.training_change(recipe(), part.labels, 1) is None
