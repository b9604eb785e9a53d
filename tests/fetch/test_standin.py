from __future__ import annotations

import numpy as np
import pytest

from car_or_truck.fetch.standin import draw as renderer


def test_the_same_seed_draws_the_same_pictures() -> None:
    for number in (0, 7):
        first, second = (np.asarray(renderer.draw(1, "train", number)) for _ in range(2))
        assert np.array_equal(first, second)


@pytest.mark.parametrize("other", [(2, "train", 0), (1, "valid", 0), (1, "train", 2)])
def test_another_seed_split_or_number_draws_another_picture(other: tuple[int, str, int]) -> None:
    assert not np.array_equal(np.asarray(renderer.draw(1, "train", 0)), np.asarray(renderer.draw(*other)))


@pytest.mark.parametrize("count", [8, 100, 5051])
def test_any_first_images_hold_the_real_share_of_trucks(count: int) -> None:
    trucks = sum(renderer.is_truck(number) for number in range(count))
    assert abs(trucks - renderer.TRUCK_SHARE * count) < 1


def test_pictures_are_letterboxed_varied_and_not_blank() -> None:
    pictures = np.stack([np.asarray(renderer.draw(3, "train", number)) for number in range(40)])
    assert pictures.shape == (40, 128, 128, 3)
    assert pictures.dtype == np.uint8
    barred = (pictures[:, 0] == 0).all(axis=(1, 2)) & (pictures[:, -1] == 0).all(axis=(1, 2))
    assert 20 < barred.sum() < 40  # most have bars, of different heights; some fill the square
    middles = pictures[:, 48:80].astype(float)
    assert middles.std(axis=(1, 2, 3)).min() > 5
    assert middles.mean(axis=(1, 2, 3)).std() > 10
