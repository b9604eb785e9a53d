"""Pictures of other things against a net that was trained on drawn vehicles."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from threadpoolctl import threadpool_limits

from car_or_truck.evaluate import novelty
from car_or_truck.evaluate.reliability import Reliability, add_feature_output, distances
from helpers.nets import fitted, recipe, split

SIDE = 32


def test_other_things_are_marked_and_drawn_vehicles_are_not() -> None:
    train, valid = split(300, SIDE), split(240, SIDE, "valid").images
    net, _, _ = fitted(recipe(blocks=[{"filters": 8}, {"filters": 16}], epochs=1), train)
    probe = add_feature_output(net)
    features = [probe.predict(images / np.float32(255), verbose=0)[0] for images in (train.images, valid)]
    measured = Reliability(1.0, np.zeros(1), **novelty.fit(features[0], features[1][:120]))

    def marked(images: np.ndarray) -> float:
        return float(measured.unlike(probe.predict(images / np.float32(255), verbose=0)[0]).mean())

    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (50, SIDE, SIDE, 3))
    colours = np.broadcast_to(random.integers(0, 256, (50, 1, 1, 3)), noise.shape)
    stripes = np.where(np.arange(SIDE)[:, None] % 8 < 4, colours, 255 - colours)
    assert marked(noise) > 0.9
    assert marked(stripes) > 0.8
    assert marked(valid[120:]) < 0.06  # 1% is promised; 120 images vary


def test_the_distance_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    train = random.normal(3, 1, (400, 5)) @ random.normal(0, 2, (5, 5))
    valid = random.normal(0, 3, (150, 5))
    measured = novelty.fit(train, valid)
    expected = LedoitWolf().fit(train).mahalanobis(valid)
    actual_distances = distances(valid, measured["centre"], measured["whitening"])
    np.testing.assert_allclose(actual_distances**2, expected, rtol=1e-3)
    assert measured["limit"] == pytest.approx(np.sort(actual_distances)[149])  # ceil(151 * 0.99) = 150


def test_on_new_images_like_those_that_set_the_limit_one_in_a_hundred_is_marked() -> None:
    random, rounds, count = np.random.default_rng(2), 300, 199
    train = random.normal(0, 1, (60, 3))
    shares = []
    for _ in range(rounds):
        measured = novelty.fit(train, random.normal(0.2, 1.1, (count, 3)))  # not as the training images are
        far = distances(random.normal(0.2, 1.1, (500, 3)), measured["centre"], measured["whitening"])
        shares.append((far > measured["limit"]).mean())
    error = np.std(shares) / np.sqrt(rounds)
    assert np.mean(shares) == pytest.approx(1 - 198 / 200, abs=4 * error)


def test_too_few_images_for_a_limit_mark_nothing_and_constant_features_do_no_harm() -> None:
    random = np.random.default_rng(0)
    assert novelty.fit(random.normal(0, 1, (20, 2)), random.normal(0, 1, (98, 2)))["limit"] == np.inf
    constant = np.ones((120, 4))
    measured = novelty.fit(constant, constant)
    assert not Reliability(1.0, np.zeros(1), **measured).unlike(constant).any()


def test_the_threads_of_linear_algebra_change_no_bit() -> None:
    random = np.random.default_rng(0)
    train, valid = random.normal(0, 1, (600, 256)), random.normal(0, 1, (300, 256))
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            results.append(novelty.fit(train, valid))
    for name in ("centre", "whitening", "limit"):
        assert np.array_equal(results[0][name], results[1][name])
