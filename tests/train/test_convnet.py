from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from car_or_truck.errors import Failure
from car_or_truck.train import batches, runtime
from helpers.nets import VARIANTS, fitted, recipe, split


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    runtime.start(0, "float32")


@pytest.mark.parametrize(
    ("variant", "layers"),
    [
        ("tutorial", [2432, 0, 18496, 0, 73856, 0, 0, 196614, 7]),
        ("exercise", [896, 0, 18496, 0, 73856, 147584, 0, 0, 196614, 0, 7]),
        ("exercise-prose", [896, 0, 18496, 36928, 0, 73856, 147584, 147584, 0, 0, 196614, 0, 7]),
        ("four-blocks", [896, 0, 18496, 0, 73856, 0, 295168, 0, 0, 98310, 0, 7]),
    ],
)
def test_the_lessons_nets_have_exactly_its_layers(variant: str, layers: list[int]) -> None:
    from car_or_truck.train import convnet

    net = convnet.build(VARIANTS[variant], 128)
    assert [layer.count_params() for layer in net.layers] == layers
    totals = {"tutorial": 291_405, "exercise": 437_453, "exercise-prose": 621_965, "four-blocks": 486_733}
    assert net.count_params() == totals[variant]
    assert net.output_shape == (None, 1)


def test_the_optimizer_gets_its_arguments_and_keras_defaults() -> None:
    from car_or_truck.train import convnet

    net = convnet.build(VARIANTS["tutorial"], 32)
    convnet.compile_net(net, VARIANTS["tutorial"], 10)
    config = net.optimizer.get_config()
    assert (config["name"], config["epsilon"], config["beta_1"]) == ("adam", 0.01, 0.9)
    assert config["learning_rate"] == pytest.approx(0.001)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", "nadam", "rmsprop", "sgd"])
def test_every_optimizer_takes_all_that_the_vocabulary_allows(name: str) -> None:
    from car_or_truck.train import convnet
    from car_or_truck.train.recipe import OPTIMIZERS

    arguments = {argument: argument == "nesterov" or 0.5 for argument in OPTIMIZERS[name]}
    chosen = recipe(optimizer={"name": name, **arguments})
    net = convnet.build(chosen, 32)
    convnet.compile_net(net, chosen, 10)
    config = net.optimizer.get_config()
    assert type(net.optimizer).__name__.lower() == name
    assert {argument: config[argument] for argument in arguments} == pytest.approx(arguments)


def test_batches_are_scaled_pictures_in_the_order_given() -> None:
    part = split(10, 16)
    order = np.array([[3, 1, 4, 0, 5, 9, 2, 6, 8, 7], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], np.int32)
    dataset = batches.stream(part, order, 4)
    pairs = [(images.numpy(), labels.numpy()) for images, labels in dataset]
    assert [len(labels) for _, labels in pairs] == [4, 4, 2, 4, 4, 2]  # each epoch ends with its own short batch
    assert len(dataset) == 6
    assert not dataset.options().autotune.enabled  # its thread would delay the end by up to a minute
    pictures, labels = (np.concatenate([pair[place] for pair in pairs]) for place in (0, 1))
    assert pictures.dtype == labels.dtype == np.float32
    np.testing.assert_allclose(pictures, part.images[order.ravel()] / np.float32(255), rtol=1e-6)
    assert np.array_equal(labels[:, 0], part.labels[order.ravel()])


def test_shuffling_once_repeats_the_first_epoch_and_each_epoch_does_not() -> None:
    once, each = (batches.training_order(50, 4, shuffle, 7) for shuffle in ("once", "each_epoch"))
    assert (once == once[0]).all()
    assert len({tuple(row) for row in each}) == 4
    for row in (*once, *each):
        assert sorted(row) == list(range(50))
    assert np.array_equal(each, batches.training_order(50, 4, "each_epoch", 7))
    assert not np.array_equal(each, batches.training_order(50, 4, "each_epoch", 8))
    assert np.array_equal(each[:2], batches.training_order(50, 2, "each_epoch", 7))  # not changed by what follows


def test_training_lowers_the_loss_and_repeats_to_the_byte(tmp_path: Any) -> None:
    from car_or_truck.train.fit import save

    chosen = recipe(epochs=6, head={"units": 6, "dropout": 0.2}, optimizer={"name": "adam", "learning_rate": 0.003})
    part = split(24, 32)
    runs = [fitted(chosen, part) for _ in range(2)]
    assert runs[0][1]["loss"].iloc[-1] < runs[0][1]["loss"].iloc[0]
    assert runs[0][1].equals(runs[1][1])
    for place, (net, _, _) in enumerate(runs):
        save(net, tmp_path / f"{place}.keras")
    assert (tmp_path / "0.keras").read_bytes() == (tmp_path / "1.keras").read_bytes()
    _, other, _ = fitted(chosen, part, seed=2)
    assert not other.equals(runs[0][1])


def test_the_best_epochs_weights_are_kept_when_asked_for() -> None:
    part = split(24, 32)
    settings: dict[str, Any] = {"epochs": 6, "optimizer": {"name": "adam", "learning_rate": 0.01}}
    valid = split(8, 32, "valid")
    for keep in ("last", "best"):
        net, history, kept_epoch = fitted(recipe(keep=keep, **settings), part)
        accuracy = history["val_binary_accuracy"]
        assert kept_epoch == (6 if keep == "last" else 1 + accuracy.argmax())
        net.compile(loss="binary_crossentropy", metrics=["binary_accuracy"])
        scores = net.evaluate(batches.in_order(valid, 8), return_dict=True)
        assert scores["binary_accuracy"] == pytest.approx(accuracy[kept_epoch - 1])
        assert scores["loss"] == pytest.approx(history["val_loss"][kept_epoch - 1])


def test_a_saved_net_predicts_the_same(tmp_path: Any) -> None:
    import keras

    from car_or_truck.train import convnet
    from car_or_truck.train.fit import save

    part = split(16, 32)
    net = convnet.inference_copy(fitted(recipe(epochs=1), part)[0])
    save(net, tmp_path / "model.keras")
    loaded_net = keras.saving.load_model(tmp_path / "model.keras")
    dataset = batches.in_order(part, 8)
    assert np.array_equal(net.predict(dataset), loaded_net.predict(dataset))


def test_a_loss_that_is_no_number_stops_with_the_likely_causes() -> None:
    wild = recipe(epochs=5, optimizer={"name": "adam", "learning_rate": 3e38})
    with pytest.raises(Failure, match=r"Training diverged in epoch \d: .*Lower optimizer.learning_rate \(3e\+38\)"):
        fitted(wild, split(24, 32))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx512f avx512_bf16", "avx512_bf16"), ("fpu amx_bf16 avx512_bf16", "amx_bf16"), ("fpu avx512f", None)],
)
def test_bfloat16_is_chosen_where_the_processor_computes_in_it(flags: str, expected: str | None, tmp_path: Any) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    if runtime.X86:
        assert runtime.bfloat16_feature(tmp_path / "cpuinfo") == expected
    assert runtime.bfloat16_feature(tmp_path / "absent") is None


def test_a_net_in_mixed_precision_answers_in_float32() -> None:
    from car_or_truck.train import convnet

    runtime.start(0, "mixed_bfloat16")
    try:
        net = convnet.build(recipe(), 32)
        assert net.layers[0].compute_dtype == "bfloat16"
        assert net.outputs[0].dtype == "float32"
    finally:
        runtime.start(0, "float32")
