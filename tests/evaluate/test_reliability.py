"""What a served model applies: prediction sets with the coverage that they promise, features, and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from car_or_truck.evaluate.calibration import nonconformity
from car_or_truck.evaluate.reliability import Reliability, add_feature_output, conformal_quantile, distances
from car_or_truck.train import runtime
from helpers.nets import EVERYTHING, built, split

Floats = NDArray[np.floating[Any]]


def reliability(scores: Floats, **changes: Any) -> Reliability:
    facts: dict[str, Any] = {
        "temperature": 2.0,
        "nonconformity": scores,
        "centre": np.zeros(2),
        "whitening": np.eye(2),
        "limit": 1.0,
    }
    return Reliability(**(facts | changes))


def test_over_new_images_the_sets_cover_what_they_promise_and_no_more() -> None:
    random, count, rounds = np.random.default_rng(1), 60, 8000
    log_odds = random.normal(0, 2, (rounds, count + 1))
    labels = (random.random(log_odds.shape) < expit(log_odds)).astype(np.uint8)
    probability = expit(0.6 * log_odds)  # not calibrated: coverage does not need it
    for coverage in (0.8, 0.95):
        covered = 0
        for truth, predicted in zip(labels, probability, strict=True):
            sets = reliability(nonconformity(truth[:-1], predicted[:-1])).prediction_sets(predicted[-1:], coverage)
            covered += int(sets[0, truth[-1]])
        expected = np.ceil((count + 1) * coverage) / (count + 1)  # exact, where no two scores are the same
        assert expected >= coverage
        error = np.sqrt(expected * (1 - expected) / rounds)
        assert covered / rounds == pytest.approx(expected, abs=4 * error)


def test_a_set_holds_one_class_both_or_none() -> None:
    confident = reliability(np.linspace(0.0, 0.3, 99))  # right on all of 99, so 0.4 is unusual
    np.testing.assert_array_equal(
        confident.prediction_sets(np.array([0.1, 0.5, 0.9]), 0.9), [[True, False], [False, False], [False, True]]
    )
    unsure = reliability(np.linspace(0.0, 0.9, 99))
    np.testing.assert_array_equal(unsure.prediction_sets(np.array([0.05, 0.5]), 0.9), [[True, False], [True, True]])
    assert reliability(np.zeros(8)).prediction_sets(np.array([0.0, 1.0]), 0.9).all()  # too few images: both, always


@pytest.mark.parametrize(("share", "rank"), [(0.5, 5), (0.75, 8), (0.9, 9), (0.901, None), (0.99, None)])
def test_the_quantile_is_that_of_a_new_score_among_its_peers(share: float, rank: int | None) -> None:
    assert conformal_quantile(np.arange(1.0, 10), share) == (rank or np.inf)


def test_confidence_is_that_of_the_predicted_class() -> None:
    model = reliability(np.zeros(1), temperature=0.5)
    odds = np.array([0.25, 4.0])  # squared by this temperature
    np.testing.assert_allclose(model.confidence(odds / (1 + odds)), [16 / 17, 16 / 17])
    assert model.confidence(np.array([0.5]))[0] == 0.5
    assert (model.confidence(np.array([0.0, 1.0])) <= 1).all()


def test_the_file_gives_the_same_back_and_is_the_same_to_the_byte(tmp_path: Path) -> None:
    original = reliability(np.linspace(0, 1, 5), limit=np.inf)
    for name in ("one.npz", "two.npz"):
        original.save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = Reliability.load(tmp_path / "one.npz")
    assert loaded is not None
    assert (loaded.temperature, loaded.limit) == (2.0, np.inf)
    np.testing.assert_array_equal(loaded.nonconformity, original.nonconformity)
    assert Reliability.load(tmp_path / "none.npz") is None
    np.savez(tmp_path / "other.npz", temperature=1.0)
    assert Reliability.load(tmp_path / "other.npz") is None
    (tmp_path / "broken.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:50])
    assert Reliability.load(tmp_path / "broken.npz") is None


def test_distances_are_mahalanobis() -> None:
    assert distances(np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros(2), np.eye(2)).tolist() == [5.0, 0.0]
    np.testing.assert_array_equal(reliability(np.zeros(1)).unlike(np.array([[0.6, 0.8], [0.6, 0.81]])), [False, True])


@pytest.mark.parametrize(
    ("precision", "changes", "maps"),
    [
        ("mixed_bfloat16", {"blocks": [{"filters": 4}, {"filters": 6}]}, 10),
        ("float32", {"blocks": [{"filters": 4, "pool": "average"}], "head": {"pooling": "global_max"}}, 4),
        ("float32", {"blocks": [{"filters": 4, "pool": "none"}], "head": {"pooling": "global_average"}}, 4),
        ("mixed_bfloat16", {key: EVERYTHING[key] for key in ("blocks", "head")}, 10),
    ],
)
def test_features_come_with_the_very_same_probability(precision: str, changes: dict[str, Any], maps: int) -> None:
    runtime.start(1, precision)
    try:
        net = built(**changes)
        images = split(12, 32).images.astype(np.float32) / 255
        features, probability = add_feature_output(net).predict(images, batch_size=5, verbose=0)
        assert features.shape == (12, maps)
        assert features.dtype == np.float32
        np.testing.assert_array_equal(probability, net.predict(images, batch_size=5, verbose=0))
    finally:
        runtime.start(0, "float32")


def test_a_feature_is_the_mean_root_of_a_channel() -> None:
    import keras

    runtime.start(1, "float32")
    net = built(blocks=[{"filters": 3, "activation": "tanh"}])
    images = split(2, 32).images.astype(np.float32) / 255
    pooled = keras.Sequential(net.layers[:2])(images).numpy()  # convolution and pooling
    assert (pooled < 0).any()
    features, _ = add_feature_output(net).predict(images, verbose=0)
    np.testing.assert_allclose(features, np.sqrt(np.abs(pooled)).mean(axis=(1, 2)), rtol=1e-5)
