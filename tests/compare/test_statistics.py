"""The statistics against independent libraries, closed forms and simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ttest_rel
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import NormalIndPower

from car_or_truck.compare import statistics

answers = st.integers(1, 60).flatmap(
    lambda count: st.tuples(*[st.lists(st.booleans(), min_size=count, max_size=count)] * 2)
)


@given(answers)
def test_mcnemar_is_that_of_statsmodels(pair: tuple[list[bool], list[bool]]) -> None:
    a, b = map(np.array, pair)
    found = statistics.mcnemar_exact(a, b)
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert (found.only_first, found.only_second) == (table[0][1], table[1][0])
    expected = mcnemar(table, exact=True).pvalue if found.only_first + found.only_second else 1
    assert found.p == pytest.approx(expected)


def test_mcnemar_of_five_against_none_is_one_in_sixteen() -> None:
    assert statistics.mcnemar_exact([True] * 5 + [True] * 9, [False] * 5 + [True] * 9).p == pytest.approx(2 / 2**5)


@given(answers)
def test_who_is_first_only_turns_the_signs(pair: tuple[list[bool], list[bool]]) -> None:
    one, two = (statistics.paired_difference(*ordered, draws=2000) for ordered in (pair, pair[::-1]))
    assert one.difference == pytest.approx(np.mean(pair[0]) - np.mean(pair[1]))
    assert one.low - 1e-9 <= one.difference <= one.high + 1e-9
    assert one.difference == pytest.approx(-two.difference)
    assert one.probability == pytest.approx(1 - two.probability, abs=0.09)
    assert statistics.paired_difference(*pair, draws=2000) == one  # the same each time


def test_alike_answers_are_no_difference() -> None:
    found = statistics.paired_difference([True, False, True], [True, False, True])
    assert (found.difference, found.low, found.high, found.probability, found.p) == (0, 0, 0, 0.5, 1)


def test_the_interval_of_two_models_is_near_the_closed_form() -> None:
    random = np.random.default_rng(1)
    a, b = random.random((2, 4000)) < [[0.83], [0.8]]
    found = statistics.paired_difference(a, b)
    closed = ttest_rel(a.astype(float), b.astype(float))
    interval = closed.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.001)
    assert found.p == pytest.approx(closed.pvalue, abs=0.002)
    assert found.probability == pytest.approx(1 - closed.pvalue / 2, abs=0.002)


def simulated(random: np.random.Generator, accuracy: float, spread: float, seeds: int, hard: Any) -> NDArray[np.bool_]:
    """A recipe's answers, [seeds, images]: seeds differ in skill, images in difficulty (`hard`, shared by recipes)."""
    skill = accuracy + spread * random.standard_normal(seeds)
    right: NDArray[np.bool_] = (random.random((seeds, len(hard))) + hard) / 2 < np.sqrt(skill / 2)[:, None] - 0.1
    return right


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 2), (1, 4)])
def test_the_interval_of_two_recipes_covers_the_truth_19_times_of_20(seeds: tuple[int, int]) -> None:
    # The truth is 0: both recipes are the same one, on other seeds, which differ more than the images' number lets
    # through. Resampling the seeds, in place of Student's t, covers it in 65 % with two seeds each, in 78 % with three.
    random = np.random.default_rng(7)
    covered = []
    for _ in range(400):
        hard = random.random(2000)
        a, b = (simulated(random, 0.8, 0.1, count, hard) for count in seeds)
        found = statistics.paired_difference(a, b, draws=800)
        covered.append(found.low <= 0 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.985  # 400 tosses of 0.95 stay in there


def test_a_bootstrap_p_value_is_as_often_small_as_it_says() -> None:
    random = np.random.default_rng(3)
    p = []
    for _ in range(400):
        hard = random.random(500)
        a, b = (simulated(random, 0.8, 0.03, 3, hard) for _ in range(2))
        p.append(statistics.paired_difference(a, b, draws=500).p)
    assert np.mean(np.array(p) < 0.05) < 0.08
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.09)


def test_without_seeds_to_compare_the_interval_is_of_the_images_alone() -> None:
    random = np.random.default_rng(5)
    a, b = random.random((2, 300)) < 0.8
    assert statistics.seed_error(a, b) == (0, 0)
    assert statistics.paired_difference(a, b) == statistics.paired_difference(a[None], b[None])
    three = np.stack([a, a, random.random(300) < 0.8])
    assert statistics.seed_error(three, b[None])[1] == 2


@pytest.mark.parametrize(
    ("p", "corrected"),
    [([], []), ([0.04], [0.04]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.6, 0.5], [1, 1])],
)
def test_holm_multiplies_by_what_is_left(p: list[float], corrected: list[float]) -> None:
    assert list(statistics.holm(p)) == pytest.approx(corrected)


@settings(max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_makes_a_difference_surer(p: list[float]) -> None:
    corrected = statistics.holm(p)
    assert (corrected >= np.array(p) - 1e-12).all()
    assert (corrected <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()


def test_the_images_needed_are_those_of_the_power_of_a_z_test() -> None:
    random = np.random.default_rng(11)
    a, b = random.random((2, 2000)) < [[0.82], [0.80]]
    per_image = a.astype(float) - b
    wanted = NormalIndPower().solve_power(abs(per_image.mean()) / per_image.std(), alpha=0.05, power=0.8, ratio=0)
    assert statistics.images_needed(a, b) == pytest.approx(wanted, rel=0.01)


def test_where_images_cannot_help_seeds_may() -> None:
    assert statistics.images_needed([True, False], [True, False]) is None  # no difference to find
    assert statistics.seeds_needed([True, False], [True, True]) is None  # one seed each: their spread is not known
    images = np.arange(10_000)
    a = np.stack([images < 8000, images < 8400])
    b = np.stack([images < 8100, images < 7700])  # 3 points apart, with 2.8 between seeds
    assert statistics.images_needed(a, b) is None
    needed = statistics.seeds_needed(a, b)
    assert needed is not None
    assert needed == pytest.approx(2 * 0.0008 * (1.96 + 0.84) ** 2 / 0.03**2, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_pareto_front_is_what_no_point_beats(points: list[tuple[int, int]]) -> None:
    front = statistics.pareto_front([cost for cost, _ in points], [quality for _, quality in points])
    for (cost, quality), kept in zip(points, front, strict=True):
        beaten = any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
        assert kept == (not beaten)
