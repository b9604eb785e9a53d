"""What corruptions do to a picture, and to which pictures."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from car_or_truck import params
from car_or_truck.drawing import Pixels
from car_or_truck.evaluate import corruptions
from car_or_truck.evaluate.corruptions import CORRUPTIONS
from helpers.clones import ROOT
from helpers.nets import split

SHIPPED = params.load(ROOT / "params.yaml").evaluate.corruptions
SIDE, TOP, BOTTOM = 64, 10, 54  # of images with letterbox bars


def boxed(count: int = 6) -> tuple[Pixels, pd.DataFrame]:
    images = split(count, SIDE).images.copy()
    images[:, :TOP] = images[:, BOTTOM:] = 0
    checksums = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    return images, pd.DataFrame({"left": 0, "top": TOP, "right": SIDE, "bottom": BOTTOM, "sha256": checksums})


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_bars_stay_black_and_the_strong_strength_changes_more(name: str) -> None:
    images, about = boxed()
    before = images.copy()
    changes = []
    for strength in getattr(SHIPPED, name):
        changed = corruptions.corrupt(images, about, name, strength)
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert not changed[:, :TOP].any()
        assert not changed[:, BOTTOM:].any()
        changes.append(np.abs(changed - images.astype(float)).mean(axis=(1, 2, 3)))
    assert (changes[0] > 0.3).all()
    assert (changes[1] > 1.2 * changes[0]).all()
    assert np.array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_picture_is_always_corrupted_the_same_whatever_stands_beside_it(name: str) -> None:
    images, about = boxed()
    strength = getattr(SHIPPED, name)[1]
    forwards = corruptions.corrupt(images, about, name, strength)
    backwards = corruptions.corrupt(images[::-1], about[::-1], name, strength)
    assert np.array_equal(forwards, backwards[::-1])
    other = about.assign(sha256=[checksum[::-1] for checksum in about["sha256"]])
    has_chance = not np.array_equal(corruptions.corrupt(images, other, name, strength), forwards)
    assert has_chance == (name in ("noise", "occlusion"))


def grey(height: int = 50, width: int = 80, value: int = 100) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def random() -> Any:
    return np.random.default_rng(0)


def test_strengths_are_in_their_units() -> None:
    assert (corruptions.darkening(grey(), 0.4, random()) == 60).all()
    noisy = corruptions.noise(grey(200, 200), 0.05, random()).astype(float)
    assert (noisy.mean(), noisy.std()) == (pytest.approx(100, abs=0.2), pytest.approx(0.05 * 255, rel=0.01))
    hidden = corruptions.occlusion(grey(), 0.18, random())[..., 0] == corruptions.GREY
    assert hidden.mean() == pytest.approx(0.18, rel=0.05)
    rows, columns = np.flatnonzero(hidden.any(axis=1)), np.flatnonzero(hidden.any(axis=0))
    assert len(rows) == len(columns) == 27  # a square
    picture = split(1, SIDE).images[0]
    file = BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=10)
    assert np.array_equal(corruptions.jpeg(picture, 10, random()), np.asarray(Image.open(file)))


def test_a_blur_spreads_a_point_by_a_share_of_the_longer_side() -> None:
    point = grey(101, 201, 0)
    point[50, 100] = 255
    spread = np.stack([corruptions.blur(point, strength, random())[..., 0] for strength in (0.01, 0.02)]).astype(float)
    columns = np.arange(201) - 100
    deviations = [np.sqrt((image.sum(axis=0) * columns**2).sum() / image.sum()) for image in spread]
    assert deviations == pytest.approx([2.01, 4.02], rel=0.15)  # Pillow's is a fast approximation, in whole values


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (40, 2)])
def test_a_picture_may_be_a_few_pixels_wide(name: str, shape: tuple[int, int]) -> None:
    for strength in getattr(SHIPPED, name):
        assert CORRUPTIONS[name](grey(*shape), strength, random()).shape == (*shape, 3)


def index(count: int) -> pd.DataFrame:
    names = [f"{number}.png" for number in range(count)]
    checksums = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return pd.DataFrame(
        {"name": names, "label": [int(number % 3 == 0) for number in range(count)], "sha256": checksums}
    )


def test_the_sample_is_a_share_of_each_class_chosen_by_content() -> None:
    table = index(100)  # 66 and 34
    sample = corruptions.sample(table, 0.3)
    assert sample["label"].value_counts().to_dict() == {0: 20, 1: 11}
    assert sample.index.is_monotonic_increasing
    assert table.loc[sample.index].equals(sample)
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    assert set(corruptions.sample(shuffled, 0.3)["name"]) == set(sample["name"])
    assert set(sample["name"]) < set(corruptions.sample(table, 0.5)["name"])
    assert corruptions.sample(table, 1.0).equals(table)


def test_every_corruption_is_a_condition_at_both_strengths() -> None:
    conditions = corruptions.conditions(SHIPPED)
    assert list(conditions)[:2] == ["blur_1", "blur_2"]
    assert {*corruptions.MILD, *corruptions.STRONG} == set(conditions)
    assert conditions["jpeg_2"] == ("jpeg", SHIPPED.jpeg[1])
