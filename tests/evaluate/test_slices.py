"""Which images are in which slice, and what may be concluded from the accuracy on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom, sem, t, ttest_1samp, ttest_ind
from statsmodels.stats.contingency_tables import mcnemar

from car_or_truck import files, paths
from car_or_truck.errors import Failure
from car_or_truck.evaluate import slices
from car_or_truck.evaluate.corruptions import MILD, STRONG
from car_or_truck.evaluate.scores import wilson

COUNT = 300
LABELS = (np.arange(COUNT) % 3 == 0).astype(np.uint8)


def measures(count: int = COUNT, **columns: Any) -> pd.DataFrame:
    random = np.random.default_rng(0)
    names = ("brightness", "contrast", "red", "green", "blue", "content")
    return pd.DataFrame({name: random.random(count) for name in names} | columns)


def test_the_slices_are_the_classes_and_the_outer_thirds_of_four_measures() -> None:
    table = measures()
    inside = slices.members(table, LABELS, ("Car", "Truck"))
    assert list(inside) == ["car", "truck", *(name for pair in slices.THIRDS.values() for name in pair)]
    assert np.array_equal(inside["truck"], LABELS == 1)
    assert np.array_equal(inside["car"], LABELS == 0)
    for name, values in (
        ("dark", table["brightness"]),
        ("bright", -table["brightness"]),
        ("low_contrast", table["contrast"]),
        ("more_letterbox", table["content"]),
        ("less_letterbox", -table["content"]),
        ("cold", table["red"] - table["blue"]),
        ("warm", table["blue"] - table["red"]),
    ):
        assert set(np.flatnonzero(inside[name])) == set(np.argsort(values)[: COUNT // 3]), name


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ([0.5] * 300, (0, 0)),  # nothing to tell apart
        ([0.0] * 150 + list(range(1, 151)), (150, 100)),  # half of them share the lowest value
        ([0.0] * 280 + list(range(1, 21)), (0, 20)),  # most share it: there is no lowest third
        ([0.0] * 295 + [1.0] * 5, (0, 0)),  # too few differ
        ([0.0] * 100 + [1.0] * 100 + [2.0] * 100, (100, 100)),
    ],
)
def test_images_with_the_same_measure_are_in_the_same_slice(values: list[float], sizes: tuple[int, int]) -> None:
    table = measures(brightness=values)
    inside = slices.members(table, LABELS, ("Car", "Truck"))
    nothing = np.zeros(COUNT, bool)
    assert (inside.get("dark", nothing).sum(), inside.get("bright", nothing).sum()) == sizes


@given(st.lists(st.integers(0, 5), min_size=20, max_size=80))
def test_no_image_is_both_dark_and_bright(values: list[int]) -> None:
    table = measures(len(values), brightness=values)
    inside = slices.members(table, np.zeros(len(values), np.uint8), ("Car", "Truck"))
    nothing = np.zeros(len(values), bool)
    dark, bright = inside.get("dark", nothing), inside.get("bright", nothing)
    assert not (dark & bright).any()
    assert not dark.any() or not bright.any() or max(np.array(values)[dark]) < min(np.array(values)[bright])


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("Car", "Truck"), ["car", "truck"]),
        (("Sports car", "SUV (large)"), ["sports_car", "suv_large"]),
        (("Car", "トラック"), ["class_0", "class_1"]),
        (("a!", "a?"), ["class_0", "class_1"]),
        (("Dark", "Bright day"), ["class_0", "class_1"]),
        (("blur 1", "sharp"), ["class_0", "class_1"]),
    ],
)
def test_a_class_has_a_name_that_mlflow_takes_and_no_other_slice_has(
    classes: tuple[str, str], names: list[str]
) -> None:
    assert slices.class_slices(classes) == names


def answers(*shares: float, seeds: int = 1, count: int = COUNT) -> Any:
    """Correct or not, [seeds, images], with these accuracies in consecutive parts of the images."""
    random = np.random.default_rng(4)
    accuracies = np.repeat(shares, count // len(shares))
    return random.random((seeds, count)) < accuracies


FIRST = np.arange(COUNT) < COUNT // 3


def test_a_part_is_tested_against_the_rest_by_fishers_exact_test() -> None:
    right = answers(0.75, 0.9, 0.9)
    dark = slices.natural_slice("dark", right, FIRST)
    inside, all_right = int(right[0, FIRST].sum()), int(right.sum())
    tables = hypergeom(COUNT, all_right, 100).pmf(range(101))  # of all tables with these margins
    assert dark.p == pytest.approx(tables[tables <= tables[inside] * (1 + 1e-9)].sum())
    assert (dark.images, dark.accuracy, (dark.low, dark.high)) == (100, inside / 100, wilson(inside, 100))
    assert dark.drop == pytest.approx(right.mean() - right[:, FIRST].mean())
    assert dark.drop_low < dark.drop < dark.drop_high


def test_corrupted_images_are_tested_against_themselves_by_mcnemars_exact_test() -> None:
    clean, right = answers(0.9), answers(0.8)
    blur = slices.corrupted_slice("blur_1", clean, right)
    lost, gained = int((clean & ~right).sum()), int((~clean & right).sum())
    assert blur.p == pytest.approx(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue)
    assert blur.drop == pytest.approx((lost - gained) / COUNT)
    assert slices.corrupted_slice("blur_1", clean, clean).p == 1


def test_with_several_seeds_it_is_a_t_test_of_their_means() -> None:
    right, worse = answers(0.75, 0.9, 0.9, seeds=3), answers(0.7, 0.8, 0.8, seeds=3)
    dark = slices.natural_slice("dark", right, FIRST)
    means = right.mean(axis=0)
    # With an image more that is right and one that is wrong
    errors = [sem([*means[part], 0, 1]) for part in (FIRST, ~FIRST)]
    drop = means[~FIRST].mean() - means[FIRST].mean()
    assert dark.p == pytest.approx(2 * t.sf(drop / np.hypot(*errors), FIRST.sum() - 1))
    assert dark.p > ttest_ind(means[~FIRST], means[FIRST], equal_var=False).pvalue
    blur = slices.corrupted_slice("blur_1", right, worse)
    change = means - worse.mean(axis=0)
    error = sem([*change, 1, -1])  # with an image more that is lost and one that is gained
    assert blur.p == pytest.approx(2 * t.sf(change.mean() / error, COUNT - 1))
    assert (blur.drop_low, blur.drop_high) == pytest.approx(t.interval(0.95, COUNT - 1, change.mean(), error))
    assert blur.p > ttest_1samp(change, 0).pvalue


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_slice_that_is_no_harder_is_rarely_significant_and_its_drop_is_covered(seeds: int) -> None:
    random = np.random.default_rng(11)
    images, rounds = 120, 1000
    significant, covered = np.zeros(2), np.zeros(2)
    for _ in range(rounds):
        easy = random.beta(2, 0.5, images)  # an image is as hard for every seed
        clean, corrupted = (random.random((seeds, images)) < easy for _ in range(2))
        pair = (
            slices.natural_slice("dark", clean, np.arange(images) < images // 3),
            slices.corrupted_slice("blur_1", clean, corrupted),
        )
        significant += [item.p < 0.05 for item in pair]
        covered += [item.drop_low <= 0 <= item.drop_high for item in pair]
    assert (significant / rounds < 0.065).all()
    assert (significant / rounds > 0.005).all()
    assert (covered / rounds > 0.93).all()
    assert (covered / rounds < 0.99).all()


@pytest.mark.parametrize(("inside", "outside"), [(0.95, 0.95), (0.6, 0.95), (0.9, 0.5)])
def test_ten_images_that_are_all_right_are_no_certainty(inside: float, outside: float) -> None:
    random, rounds = np.random.default_rng(12), 1000
    part = np.arange(120) < slices.FEWEST
    easy = np.where(part, inside, outside)
    drop = float((easy.mean() - easy[part]).mean())
    trials = [slices.natural_slice("dark", random.random((3, 120)) < easy, part) for _ in range(rounds)]
    assert sum(item.drop_low <= drop <= item.drop_high for item in trials) > 0.93 * rounds
    assert inside != outside or sum(item.p < 0.05 for item in trials) < 0.065 * rounds


def test_a_model_that_is_always_right_or_wrong_has_no_significant_slice() -> None:
    for right in (np.ones((3, COUNT), bool), np.zeros((1, COUNT), bool)):
        assert slices.natural_slice("dark", right, FIRST).p == 1
        assert slices.corrupted_slice("blur_1", right, right).p == 1
    lost = slices.corrupted_slice("blur_1", np.ones((2, COUNT), bool), np.zeros((2, COUNT), bool))
    assert (lost.p < 1e-9, lost.drop) == (True, 1)


def test_two_corrupted_images_that_every_seed_loses_are_no_certainty() -> None:
    lost = slices.corrupted_slice("blur_1", np.ones((3, 2), bool), np.zeros((3, 2), bool))
    assert lost.p > 0.05
    assert lost.drop_low < 0 < lost.drop == 1 < lost.drop_high


def test_few_scores_are_shown_and_only_a_significant_drop_counts() -> None:
    names = ["dark", *MILD, *STRONG]
    table = pd.DataFrame({"slice": names, "accuracy": 0.5, "drop": 0.3, "p_corrected": 0.2})
    scores = slices.slice_scores(table)
    assert set(scores) == {"largest_slice_drop", *(f"slice.{name}.val_binary_accuracy" for name in ("dark", *STRONG))}
    assert scores["largest_slice_drop"] == 0
    table.loc[:2, "p_corrected"] = 0.01
    table.loc[:2, "drop"] = [0.1, -0.4, 0.2]
    assert slices.slice_scores(table)["largest_slice_drop"] == 0.2


def test_measures_are_read_by_name_and_their_absence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match=r"reports/data/measures.csv cannot be read .* Run `dvc repro prepare`"):
        slices.read_measures(["a"])
    files.write_text(paths.AUDIT / "measures.csv", "split,name,content\ntrain,a,1\nvalid,b,2\nvalid,a,3\n")
    assert slices.read_measures(["a", "b"])["content"].tolist() == [3, 2]
    with pytest.raises(Failure, match=r"c.* not in index"):
        slices.read_measures(["a", "c"])
