from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from car_or_truck import drawing
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


def test_captions_of_groups_have_one_size_while_they_fit_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(drawing, "save", lambda figure, path: drawn.append(figure))
    images = np.zeros((1, 8, 8, 3), np.uint8)
    captions = "Darkest (4 are very dark)", "Lowest contrast (0 are blank)", 20 * "a long name "
    figures.group_sheet(dict.fromkeys(captions, images), "three groups", Path("groups.png"))
    texts = drawn[0].axes[0].texts
    assert [text.get_fontsize() == 10 for text in texts] == [True, True, False]
    assert all(text.get_window_extent().x1 <= drawn[0].bbox.x1 for text in texts)
