from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from car_or_truck.prepare import figures


def test_the_two_images_of_a_pair_are_nearer_to_each_other_than_to_the_next_pair(tmp_path: Path) -> None:
    red = np.zeros((2, 32, 32, 3), np.uint8)
    red[:, :, :, 0] = 255
    pairs = [(red, f"train/{place}", f"valid/{place}", 0) for place in range(3)]
    figures.pair_sheet(pairs, "3 pairs", tmp_path / "pairs.png")
    with Image.open(tmp_path / "pairs.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    columns = np.flatnonzero(((pixels[:, :, 0] > 200) & (pixels[:, :, 1] < 50)).any(axis=0))
    gaps = [int(right - left) for left, right in pairwise(columns) if right - left > 1]
    assert len(gaps) == 5
    assert max(gaps[::2]) < min(gaps[1::2])
