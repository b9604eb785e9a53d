from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from car_or_truck.compare import statistics, verdict
from car_or_truck.evaluate.scores import holm

HARD = np.random.default_rng(4).random(3000)  # images that are hard for one net are hard for others
MAJORITY = ("Car", 0.58)


def recipe(accuracy: float, seeds: int = 1) -> NDArray[np.bool_]:
    random = np.random.default_rng([round(1000 * accuracy), seeds])
    noisy = np.clip(HARD + 0.05 * random.standard_normal((seeds, HARD.size)), 0, 1)
    right: NDArray[np.bool_] = noisy < accuracy
    return right


CORRECT = {"low": recipe(0.7), "high": recipe(0.9), "near": recipe(0.896)}


def test_a_significant_lead_is_stated_with_its_interval() -> None:
    correct = {"low": CORRECT["low"], "high": CORRECT["high"]}
    (pair,) = verdict.compare_recipes(correct)
    assert pair.significant
    assert pair.seeds == (1, 1)
    assert pair.interval.endswith("; one seed each")
    points = 100 * (CORRECT["high"].mean() - CORRECT["low"].mean())
    assert pair.words == f"high beats low by {points:.1f} points ({pair.interval})."
    accuracy = f"{100 * CORRECT['high'].mean():.1f}% accuracy on 3,000 validation images"
    assert verdict.headline(correct, [pair], MAJORITY) == [
        f"high wins: {accuracy}, {points:.1f} points ahead of low ({pair.interval}).",
        verdict.ONE_SEED,
    ]


def test_a_lead_of_one_seed_is_called_so_though_another_variant_has_several() -> None:
    correct = {"low": CORRECT["low"], "high": CORRECT["high"], "lower": recipe(0.6, 2)}
    assert verdict.ONE_SEED in verdict.headline(correct, verdict.compare_recipes(correct), MAJORITY)
    correct = {"low": CORRECT["low"], "high": recipe(0.9, 2)}
    assert verdict.ONE_SEED not in verdict.headline(correct, verdict.compare_recipes(correct), MAJORITY)


def test_of_several_that_are_beaten_the_nearest_is_named() -> None:
    correct = {"low": CORRECT["low"], "high": CORRECT["high"], "lower": recipe(0.6)}
    pairs = verdict.compare_recipes(correct)
    (nearest,) = [pair for pair in pairs if (pair.first, pair.second) == ("high", "low")]
    lead = f"{100 * nearest.estimate.difference:.1f} points ahead of low, the runner-up ({nearest.interval})."
    assert verdict.headline(correct, pairs, MAJORITY)[0].endswith(lead)


def test_a_difference_that_is_not_significant_says_what_would_be_needed() -> None:
    pairs = {(pair.first, pair.second): pair for pair in verdict.compare_recipes(CORRECT)}
    close = next(pair for names, pair in pairs.items() if set(names) == {"near", "high"})
    assert not close.significant
    assert "do not differ significantly on these 3,000 images" in close.words
    needed = statistics.images_needed(CORRECT[close.first], CORRECT[close.second], 1 - 0.05 / 3)
    assert needed is not None
    assert close.more_images == needed - 3000
    digits = len(str(close.more_images)) - 2  # rounded up to two of them
    assert f"about {-(-close.more_images // 10**digits) * 10**digits:,} more images would be needed" in close.words
    output = verdict.headline(CORRECT, list(pairs.values()), MAJORITY)
    assert output[0].startswith(f"{close.first} leads with ")
    assert output[0].endswith(f"but not significantly ahead of {close.second}.")


def test_too_few_images_for_an_exact_test_ask_for_a_few_more() -> None:
    (pair,) = verdict.compare_recipes({"a": np.arange(10)[None] < 5, "b": np.arange(10)[None] < 0})
    assert not pair.significant
    assert pair.words.endswith("; a few more images would be needed.")
    assert pair.estimate.high <= 1


def test_equal_predictions_are_said_to_be_equally_accurate() -> None:
    (pair,) = verdict.compare_recipes({"one": CORRECT["low"], "two": CORRECT["low"]})
    assert pair.words == (
        "one and two do not differ significantly on these 3,000 images: both are equally accurate "
        "(95% CI -0.1 to 0.1; one seed each)."
    )


def test_what_beats_the_winner_over_a_third_beats_the_third() -> None:
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    assert verdict.corrected_in_order(pairs, [0.001, 0.03, 0.01]) == [0.003, 0.03, 0.02]
    assert verdict.corrected_in_order(pairs, [0.001, 0.2, 0.01]) == [0.003, 0.2, 0.02]  # never below its own p
    assert verdict.corrected_in_order(pairs, [0.2, 0.03, 0.01]) == pytest.approx([0.2, 0.06, 0.03])
    assert verdict.corrected_in_order([], []) == []


@given(st.permutations(range(5)), st.lists(st.floats(0, 1), min_size=10, max_size=10))
def test_an_order_that_follows_is_never_wrong_where_those_are_right_that_it_follows_from(
    truth: list[int], p_values: list[float]
) -> None:
    pairs = list(combinations([str(item) for item in range(5)], 2))
    right = [truth[int(first)] > truth[int(second)] for first, second in pairs]
    given_p = [p if better else 1.0 for p, better in zip(p_values, right, strict=True)]
    corrected, plain = verdict.corrected_in_order(pairs, given_p), holm(given_p)
    assert all(better or p == 1 for p, better in zip(corrected, right, strict=True))
    assert all(own <= p <= most for own, p, most in zip(given_p, corrected, plain, strict=True))


def test_a_lead_of_one_image_is_not_told_as_none() -> None:
    ahead = CORRECT["low"].copy()
    ahead[0, np.flatnonzero(~ahead[0])[0]] = True
    (pair,) = verdict.compare_recipes({"one": ahead, "two": CORRECT["low"]})
    assert "one leads by less than 0.1 points (95% CI -0.1 to 0.1; one seed each)" in pair.words


def test_a_tie_is_no_lead() -> None:
    mirrored = CORRECT["low"][:, ::-1]
    correct = {"one": CORRECT["low"], "two": mirrored, "far": recipe(0.4)}
    output = verdict.headline(correct, verdict.compare_recipes(correct), MAJORITY)[0]
    accuracy = f"{100 * CORRECT['low'].mean():.1f}% accuracy on 3,000 validation images"
    assert output == f"one and two are equally accurate: {accuracy}."
    correct["far"] = CORRECT["low"].copy()
    correct["far"][0, np.flatnonzero(correct["far"][0])[0]] = False  # worse than "two", too, by one image
    output = verdict.headline(correct, verdict.compare_recipes(correct), MAJORITY)[0]
    assert output == f"one and two are equally accurate: {accuracy}, but not significantly ahead of far."


def test_never_are_fewer_images_or_seeds_asked_for_than_there_are() -> None:
    random = np.random.default_rng(3)
    needs = []
    for _ in range(100):  # two seeds each, which truly spread
        centre = random.normal([0.88, 0.85], 0.008, (2, 2)).T
        hard = random.random((1, 1, 2000))
        right = hard + random.normal(0, 0.2, (2, 2, 2000)) < centre[:, :, None]
        (pair,) = verdict.compare_recipes({"a": right[0], "b": right[1]})
        if not pair.significant:
            needs.append((pair.more_images, pair.more_seeds))
    assert len(needs) > 20
    assert all(images is None or images > 0 for images, _ in needs)
    assert all(seeds is None or seeds > 2 for _, seeds in needs)
    assert any(seeds for _, seeds in needs)


def test_several_seeds_compare_recipes() -> None:
    correct = {"low": recipe(0.7, 3), "high": recipe(0.9, 3)}
    (pair,) = verdict.compare_recipes(correct)
    assert pair.seeds == (3, 3)
    assert "one seed" not in pair.words
    (unlike,) = verdict.compare_recipes(correct | {"high": CORRECT["high"]})
    assert unlike.interval.endswith("; one seed of high")
    assert pair.significant
    output = verdict.headline(correct, [pair], MAJORITY)
    assert "(mean of 3 seeds)" in output[0]
    assert len(output) == 1  # nothing about a single seed


def test_seeds_that_differ_ask_for_seeds() -> None:
    correct = {"a": np.stack([recipe(0.7)[0], recipe(0.9)[0]]), "b": np.stack([recipe(0.72)[0], recipe(0.8)[0]])}
    (pair,) = verdict.compare_recipes(correct)
    assert not pair.significant
    assert pair.more_images is None
    assert "seeds of each" in pair.words


def test_one_variant_alone_is_no_comparison() -> None:
    assert verdict.compare_recipes({"low": CORRECT["low"]}) == []
    output = verdict.headline({"low": CORRECT["low"]}, [], MAJORITY)
    accuracy = f"{100 * CORRECT['low'].mean():.1f}% accuracy on 3,000 validation images"
    assert output == [f"low is the only variant compared: {accuracy}."]


def test_a_model_no_better_than_a_constant_is_told_so() -> None:
    output = verdict.headline({"net": recipe(0.58)}, [], MAJORITY)
    assert output[0].endswith(" It is not significantly better than always answering Car (58.0%).")
    assert "always" not in verdict.headline({"net": recipe(0.7)}, [], MAJORITY)[0]


def test_every_pair_of_thirty_models_is_corrected_for_their_number() -> None:
    correct = {f"m{number}": recipe(0.8 + number / 1000)[0] for number in range(30)}
    pairs = verdict.compare_models(correct)
    assert len(pairs) == 435
    for pair in pairs:
        assert pair.difference >= 0
        assert pair.p <= pair.p_corrected <= min(1, 435 * pair.p) + 1e-9
        assert pair.only_first - pair.only_second == pytest.approx(pair.difference * HARD.size)
