from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from car_or_truck import drawing
from car_or_truck.compare import calibration, figures
from car_or_truck.compare.comparison import tabulate
from helpers.cells import cell, dataset, predictions, result


def test_several_seeds_are_no_more_images() -> None:
    rng = np.random.default_rng(0)
    labels, probability = rng.integers(0, 2, 500).astype(np.uint8), rng.random(500)
    seed_bins = calibration._bins(labels, probability, 1)
    pooled_bins = calibration._bins(np.tile(labels, 5), np.tile(probability, 5), 5)
    assert seed_bins["images"].sum() > 400
    pd.testing.assert_frame_equal(pooled_bins, seed_bins)


def test_titles_speak_of_variants_by_the_mean_of_their_seeds(tmp_path: Path) -> None:
    labels = [place % 2 for place in range(40)]
    images = dataset(counts={"train": {"Car": 20, "Truck": 20}, "valid": {"Car": 20, "Truck": 20}})
    results = [
        result(cell(variant, images, seed=seed), predictions([abs(label - error) for label in labels], labels))
        for variant, seed, error in (("a", 1, 0.2), ("a", 2, 0.9), ("b", 1, 0.3), ("b", 2, 0.4))
    ]
    looks = figures.styles(drawing.variant_colours(["a", "b"]))
    calibration.roc(results, looks, tmp_path / "roc.svg")
    assert "<title>b has the largest area under the curve: 1.0" in (tmp_path / "roc.svg").read_text()  # a: 100% and 0%

    wrong = [abs(label - 0.35) if place > 3 else 0.9 for place, label in enumerate(labels)]
    results = [result(cell("b", images, seed=seed), predictions(wrong, labels)) for seed in (1, 2)]
    table = tabulate(results)
    calibration.reliability(results, table, {"b": looks["b"]}, tmp_path / "reliability.svg")
    title = re.search("<title>(.*?)</title>", (tmp_path / "reliability.svg").read_text(), re.S)
    assert title
    before = table.loc[table["variant"] == "b", "val_expected_calibration_error"].mean()
    assert f"of b from {100 * before:.1f} to" in " ".join(title[1].split())
