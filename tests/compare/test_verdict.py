from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from car_or_truck.compare import statistics, verdict

RANDOM = np.random.default_rng(4)
HARD = RANDOM.random(3000)  # images that are hard for one net are hard for others


def recipe(accuracy: float, seeds: int = 1) -> NDArray[np.bool_]:
    noisy = np.clip(HARD + 0.05 * RANDOM.standard_normal((seeds, HARD.size)), 0, 1)
    right: NDArray[np.bool_] = noisy < accuracy
    return right


RIGHT = {"low": recipe(0.7), "high": recipe(0.9), "near": recipe(0.895)}


def test_a_clear_lead_is_said_with_its_interval() -> None:
    (pair,) = verdict.of_recipes({"low": RIGHT["low"], "high": RIGHT["high"]})
    assert pair.certain
    assert not pair.of_recipes
    points = 100 * (RIGHT["high"].mean() - RIGHT["low"].mean())
    assert pair.words == f"high beats low by {points:.1f} points ({pair.interval})."
    said = verdict.headline({"low": RIGHT["low"], "high": RIGHT["high"]}, [pair], 0.58, "Car")
    assert said[0].startswith("high is best: it is right on 8")
    assert f"beats low by {points:.1f} points ({pair.interval})." in said[0]
    assert said[1] == verdict.ONE_SEED


def test_what_cannot_be_told_apart_says_what_would_be_needed() -> None:
    pairs = {(pair.first, pair.second): pair for pair in verdict.of_recipes(RIGHT)}
    close = next(pair for names, pair in pairs.items() if set(names) == {"near", "high"})
    assert not close.certain
    assert "cannot be told apart on these 3000 images" in close.words
    assert "more images would be needed" in close.words
    assert close.more_images is not None
    needed = statistics.images_needed(RIGHT[close.first], RIGHT[close.second], 1 - 0.05 / 3)
    assert close.more_images == (needed or 0) - 3000
    said = verdict.headline(RIGHT, list(pairs.values()), 0.58, "Car")
    assert f"cannot be told apart from {close.second}" in said[0]


def test_equal_answers_are_said_to_be_equal() -> None:
    (pair,) = verdict.of_recipes({"one": RIGHT["low"], "two": RIGHT["low"]})
    assert pair.words == (
        "one and two cannot be told apart on these 3000 images: they are right equally often (0.0 to 0.0)."
    )


def test_several_seeds_compare_recipes() -> None:
    right = {"low": recipe(0.7, 3), "high": recipe(0.9, 3)}
    (pair,) = verdict.of_recipes(right)
    assert pair.of_recipes
    assert pair.certain
    said = verdict.headline(right, [pair], 0.58, "Car")
    assert "(mean of 3 seeds)" in said[0]
    assert verdict.ONE_SEED not in said


def test_seeds_that_differ_ask_for_seeds() -> None:
    right = {"a": np.stack([recipe(0.7)[0], recipe(0.9)[0]]), "b": np.stack([recipe(0.72)[0], recipe(0.8)[0]])}
    (pair,) = verdict.of_recipes(right)
    assert not pair.certain
    assert pair.more_images is None
    assert "seeds of each" in pair.words


def test_one_variant_alone_is_no_comparison() -> None:
    assert verdict.of_recipes({"low": RIGHT["low"]}) == []
    assert verdict.headline({"low": RIGHT["low"]}, [], 0.58, "Car")[0].startswith("low alone was compared")


def test_a_net_no_better_than_a_constant_is_told_so() -> None:
    said = verdict.headline({"net": recipe(0.58)}, [], 0.58, "Car")
    assert "Always answering Car would be right on 58.0 %: that is no better." in said[0]


def test_every_pair_of_thirty_models_is_corrected_for_their_number() -> None:
    right = {f"m{number}": recipe(0.8 + number / 1000)[0] for number in range(30)}
    pairs = verdict.of_models(right)
    assert len(pairs) == 435
    for pair in pairs:
        assert pair.difference >= 0
        assert pair.p <= pair.p_corrected <= min(1, 435 * pair.p) + 1e-9
        assert pair.only_first - pair.only_second == pytest.approx(pair.difference * HARD.size)


@pytest.mark.parametrize(
    ("probability", "words"), [(0.5, "50 %"), (0.999, "over 99 %"), (1.0, "over 99 %"), (0.0, "under 1 %")]
)
def test_a_probability_is_never_quite_certain(probability: float, words: str) -> None:
    assert verdict.chance(probability) == words
