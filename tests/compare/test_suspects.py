from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from car_or_truck import drawing
from car_or_truck.cells.results import Result
from car_or_truck.compare import suspects
from helpers.cells import cell, predictions, result

CLASSES = ("Car", "Truck")
LABELS = [0, 0, 0, 1, 1, 1]


def make_results(variant: str, *seeds: list[float]) -> list[Result]:
    """A variant with seeds 0, 1, ..., each with its probabilities for six images: three of each class."""
    return [
        result(cell(variant, seed=seed), predictions(probability, LABELS)) for seed, probability in enumerate(seeds)
    ]


def test_a_suspect_is_wrong_in_every_seed_of_the_best_variant_and_wrong_with_confidence() -> None:
    results = make_results(
        "worse",  # its best seed is the best of all models
        [0.1, 0.1, 0.1, 0.9, 0.1, 0.1],
        [0.9, 0.9, 0.9, 0.1, 0.1, 0.1],
    ) + make_results(
        "best",
        [0.85, 0.1, 0.20, 0.01, 0.0, 0.9],
        [0.80, 0.1, 0.95, 0.09, 0.6, 0.9],  # the fifth image is predicted correctly, by one seed
    )
    assert [item.name for item in suspects.best_seeds(results)] == ["best-0", "best-1"]
    assert suspects.find_suspects(results, CLASSES).to_dict("index") == {
        3: {"name": "valid/3.png", "label": "Truck", "probability": 0.05, "models_wrong": 3, "models": 4},
        0: {"name": "valid/0.png", "label": "Car", "probability": 0.825, "models_wrong": 3, "models": 4},
    }
    alone = suspects.find_suspects(results[2:3], CLASSES)  # one seed
    assert list(alone["name"]) == ["valid/4.png", "valid/3.png", "valid/0.png"]
    assert set(alone["models_wrong"]) == set(alone["models"]) == {1}


def test_flipped_labels_are_found_and_a_variant_that_knows_nothing_suspects_nothing() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    labels = truth.copy()
    flipped = rng.choice(400, 20, replace=False)
    labels[flipped] ^= 1
    # as after label smoothing: right answers about 0.93
    knowing = [np.abs(1 - truth - rng.normal(0.93, 0.03, 400).clip(0.85, 1)) for _ in range(3)]
    guessing = [rng.normal(0.5, 0.05, 400).clip(0, 1) for _ in range(3)]
    constant = [np.full(400, 0.1), knowing[0]]  # it collapsed with one of two seeds
    for answers, expected in ((knowing, set(flipped)), (guessing, set()), (constant, set())):
        results = [
            result(cell(seed=seed), predictions(list(answer), list(labels))) for seed, answer in enumerate(answers)
        ]
        assert set(suspects.find_suspects(results, CLASSES).index) == expected


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (9, 2), (60, 6)])
def test_the_contact_sheet_shows_the_first_suspects(count: int, rows: int, tmp_path: Path) -> None:
    # the image in place i is a shade of red that tells i, and an even place is a suspect
    images = np.zeros((2 * 60, 8, 8, 3), np.uint8)
    images[:, :, :, 0] = 100 + np.arange(120)[:, None, None]
    table = pd.DataFrame(
        {"name": "valid/Car/$a_トラック{.jpeg", "label": "Car", "probability": 0.9, "models_wrong": 1, "models": 1},
        index=2 * np.arange(count),
    )
    suspects.draw(table, images, "Truck", tmp_path / "suspects.png")
    with Image.open(tmp_path / "suspects.png") as sheet:
        assert sheet.height == pytest.approx(140 * (1.55 * rows + 0.33), abs=1)
        pixels = np.asarray(sheet.convert("RGB"))
    shades = pixels[(pixels[:, :, 0] >= 100) & (pixels[:, :, 1:] == 0).all(axis=2), 0]
    places = {int(shade) - 100 for shade in np.unique(shades) if (shades == shade).sum() > 2000}
    assert places == set(2 * np.arange(min(count, suspects.MOST)))


def test_captions_of_suspects_are_no_wider_than_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(drawing, "save", lambda figure, path: drawn.append(figure))
    table = pd.DataFrame(
        {"name": "valid/Car/WWMM_WWMM_WW.jpeg", "label": "motorbike", "probability": 0.1}, index=range(3)
    )
    suspects.draw(table, np.zeros((3, 8, 8, 3), np.uint8), "motorbike", Path("suspects.png"))
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].texts]
    assert [left.x1 < right.x0 for left, right in pairwise(boxes)] == [True, True]
