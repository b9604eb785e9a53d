"""Luck by simulation and closed form: that of the seed, and that of being the best of many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from intervals import calibrated, spread

from car_or_truck.compare import luck
from car_or_truck.evaluate.scores import holm


def test_calibrated_seeds_spread_as_their_number_of_images_predicts() -> None:
    random = np.random.default_rng(1)
    spreads = [
        luck.seed_spread("net", calibrated(random, errors=(0.12, 0.12), images=2000, seeds=(6, 1))[0])
        for _ in range(200)
    ]
    predicted = np.mean([spread.predicted for spread in spreads])
    assert predicted == pytest.approx(np.sqrt(0.12 / 4000), rel=0.02)
    observed = np.sqrt(np.mean([(spread.observed or 0) ** 2 for spread in spreads]))
    assert observed == pytest.approx(predicted, rel=0.08)


@pytest.mark.parametrize("errs", ["calibrated", "independently", "on the same images"])
def test_luck_alone_raises_the_flag_as_often_as_it_says(errs: str) -> None:
    random = np.random.default_rng(2)

    def seeds() -> Any:
        if errs == "calibrated":
            return calibrated(random, errors=(0.12, 0.12), images=1000, seeds=(4, 1))[0]
        chance = 0.2 if errs == "independently" else np.where(np.arange(1000) < 180, 0.9, 0.02)
        return random.random((4, 1000)) > chance

    flags = [luck.seed_spread("a", seeds()).excessive for _ in range(800)]
    assert 0.03 <= np.mean(flags) <= 0.07


def test_a_true_spread_mostly_raises_the_flag() -> None:
    random = np.random.default_rng(2)
    seeds = (spread(random, deviation=0.05, images=1000, seeds=(4, 1))[0] for _ in range(200))
    assert np.mean([luck.seed_spread("a", right).excessive for right in seeds]) > 0.9


def test_the_flags_of_several_variants_are_corrected_for_their_number() -> None:
    random = np.random.default_rng(5)
    correct = {f"v{number}": spread(random, deviation=0.02, images=1000, seeds=(3, 1))[0] for number in range(8)}
    correct["single"] = correct["v0"][:1]
    p_values = [luck.seed_spread(variant, right).p for variant, right in correct.items()]
    corrected = [seed_spread.p for seed_spread in luck.seed_spreads(correct)]
    assert p_values[-1] is corrected[-1] is None
    assert corrected[:-1] == pytest.approx(holm([p for p in p_values if p is not None]))


def test_seed_luck_is_said_with_one_seed_and_with_several() -> None:
    random = np.random.default_rng(3)
    single_seed = random.random((1, 5051)) < 0.884
    wide = np.stack([random.permutation(5051) < count for count in (4000, 4500, 4200)])
    alike = np.stack([random.permutation(5051) < 4400 for _ in range(2)])
    single, wide_spread, no_spread = luck.seed_spreads({"sprint": single_seed, "wide": wide, "alike": alike})
    (perfect,) = luck.seed_spreads({"sure": np.ones((1, 40), bool)})
    assert perfect.words == "sure has one seed, which is right on all images: how far another moves it is unknown."
    assert single.words == (
        "sprint has one seed, so the standard deviation over seeds is unknown; "
        f"{100 * single.predicted:.2f} points are expected of equally good models."
    )
    assert wide_spread.excessive
    assert wide_spread.words == (
        "wide: the standard deviation of its 3 seeds is 4.98 points, significantly more than the 0.51 that equally "
        "good models would show."
    )
    assert no_spread.words == (
        "alike: the standard deviation of its 2 seeds is 0.00 points; 0.47 are expected of equally good models."
    )


@pytest.mark.parametrize(
    ("models", "images", "deviation"), [(2, 384, 0.0), (6, 384, 0.0), (30, 384, 0.01), (6, 2000, 0.003)]
)
def test_the_corrected_best_of_many_errs_less_and_keeps_less_than_two_fifths_of_its_bias(
    models: int, images: int, deviation: float
) -> None:
    random = np.random.default_rng(4)
    naive, corrected = [], []
    for _ in range(150):
        skill = 0.9 + deviation * random.standard_normal(models)
        right = random.random((models, images)) < skill[:, None]
        best = luck.select_best({f"m{place}": answers for place, answers in enumerate(right)})
        truth = skill[int(best.model[1:])]
        naive.append(best.accuracy - truth)
        corrected.append(best.corrected - truth)
    assert np.mean(naive) > 0.002
    assert abs(np.mean(corrected)) < 0.4 * np.mean(naive)
    assert np.mean(np.square(corrected)) < 0.9 * np.mean(np.square(naive))


def test_the_same_models_are_corrected_in_the_same_way_each_time() -> None:
    right = np.random.default_rng(6).random((4, 100)) < 0.7
    once = luck.corrected_best(right)
    luck._resamples.cache_clear()  # as in another process
    assert luck.corrected_best(right) == once
    assert luck.corrected_best(right[:1]) == right[0].mean()  # there was nothing to choose


def test_a_model_that_is_best_everywhere_is_not_corrected() -> None:
    right = np.stack([np.arange(200) % 10 < share for share in (9, 5, 3)])
    best = luck.select_best({"high": right[0], "middle": right[1], "low": right[2]})
    assert (best.model, best.accuracy) == ("high", 0.9)
    assert best.corrected == pytest.approx(0.9)
    assert best.words == (
        "Chosen as the best of 3 models on these same images, high is optimistically biased by less than 0.1 points."
    )


def test_averaging_outvotes_errors_that_seeds_do_not_share_and_changes_nothing_of_equal_seeds() -> None:
    labels = np.array([0, 1] * 50, np.uint8)
    right = np.where(labels == 1, 0.9, 0.1)
    seeds = np.stack([np.where(np.arange(100) % 10 == place, 1 - right, right) for place in range(3)])
    average = luck.average_seeds(labels, seeds)
    assert (average.accuracy, average.gain) == pytest.approx((1.0, 0.1))
    assert average.words == (
        "Averaged, their probabilities are right on 100.0% of the images (95% CI 96.3 to 100.0): +10.0 points."
    )
    same = luck.average_seeds(labels, np.stack([seeds[0]] * 3))
    assert (same.accuracy, same.gain) == pytest.approx((0.9, 0))
    assert same.words.endswith("(95% CI 82.6 to 94.5): +0.0 points.")


def test_one_confident_seed_may_outvote_two_that_doubt() -> None:
    average = luck.average_seeds(np.array([1], np.uint8), np.array([[0.99], [0.4], [0.4]]))
    assert (average.accuracy, average.gain) == pytest.approx((1.0, 2 / 3))
