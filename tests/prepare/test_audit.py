from __future__ import annotations

import math
from itertools import combinations

import imagehash
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageEnhance

from car_or_truck.fetch.standin.draw import draw
from car_or_truck.prepare import audit


def test_measures_leave_the_bars_out() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48] = (200, 100, 0)
    measures = audit.measure(pixels)
    assert (measures.red, measures.green, measures.blue) == (200, 100, 0)
    assert (measures.brightness, measures.content) == (100, 0.5)
    assert (measures.left, measures.top, measures.right, measures.bottom) == (0, 16, 64, 48)
    assert audit.measure(np.zeros((64, 64, 3), np.uint8))[:2] == (0, 0)


def test_the_hash_is_that_of_imagehash() -> None:
    picture = draw(1, "train", 0)
    content = picture.crop(audit.content_box(np.asarray(picture)))
    assert f"{audit.measure(np.asarray(picture)).phash:016x}" == str(imagehash.phash(content))


def test_a_brightened_copy_is_a_near_duplicate_and_another_image_is_not() -> None:
    pictures = [draw(1, "train", number) for number in range(60)]
    pictures.append(ImageEnhance.Brightness(pictures[7]).enhance(1.04))
    hashes = np.array([audit.measure(np.asarray(picture)).phash for picture in pictures], np.uint64)
    assert (7, 60) in {(i, j) for i, j, _ in audit.near_pairs(hashes)}
    assert len(audit.near_pairs(hashes)) < 5


hashes = st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=40)


@given(hashes, st.lists(st.tuples(st.integers(0, 39), st.sets(st.integers(0, 63), max_size=6)), max_size=20))
def test_near_pairs_are_those_that_plain_comparison_finds(values: list[int], flips: list[tuple[int, set[int]]]) -> None:
    for place, bits in flips:  # some that are close to others
        if place < len(values):
            values.append(values[place] ^ sum(1 << bit for bit in bits))
    first = [values.index(value) for value in values]
    expected = [
        (i, j, (values[i] ^ values[j]).bit_count())
        for i, j in combinations(range(len(values)), 2)
        if (values[i] ^ values[j]).bit_count() <= audit.NEAR and i == first[i] and first[j] in (i, j)
    ]
    assert audit.near_pairs(np.array(values, np.uint64)) == expected


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_each_name_is_paired_with_the_first_of_the_same_content(checksums: list[str]) -> None:
    names = [f"{place:02d}" for place in range(len(checksums))]
    firsts = [names[checksums.index(checksum)] for checksum in checksums]
    expected = sorted((first, name) for first, name in zip(firsts, names, strict=True) if first != name)
    assert audit.identical_pairs(names[::-1], checksums[::-1]) == expected


def test_ten_thousand_blank_images_take_no_more_pairs_than_images() -> None:
    count = 10_000
    assert len(audit.near_pairs(np.zeros(count, np.uint64))) == count - 1
    assert len(audit.identical_pairs(map(str, range(count)), ["a"] * count)) == count - 1


def test_the_standardized_difference_is_cohens_d() -> None:
    rng = np.random.default_rng(0)
    rows = {"split": ["train"] * 40_000 + ["valid"] * 40_000, "label": [0, 1] * 40_000}
    for name in ("brightness", "contrast", "red", "green", "blue", "content"):
        rows[name] = [*rng.normal(100, 10, 40_000), *rng.normal(105, 30, 40_000)]
    differences = audit.split_differences(pd.DataFrame(rows))
    assert differences["brightness"]["standardized"] == pytest.approx(5 / math.hypot(10, 30) * math.sqrt(2), abs=0.03)
    assert differences["second_class_share"] == {"train": 0.5, "valid": 0.5, "standardized": 0.0}
