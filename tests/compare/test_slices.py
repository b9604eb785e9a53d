"""Where the variants are weak, from results that were made up: the table, its words and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from car_or_truck import drawing, files, paths
from car_or_truck.cells.results import Result
from car_or_truck.compare import figures, slice_figures, slices
from car_or_truck.evaluate.corruptions import MILD, STRONG
from car_or_truck.evaluate.scores import holm
from helpers.cells import cell, predictions, result
from helpers.nets import recipe

COUNT = 200
CLASSES = ("Car", "Truck")
LABELS = np.arange(COUNT) % 2
BRIGHTNESS = np.arange(COUNT)


@pytest.fixture(autouse=True)
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"split": "valid", "name": [f"{number}.png" for number in range(COUNT)]})
    table = table.assign(brightness=BRIGHTNESS, contrast=1, red=1, green=1, blue=1, content=1)
    files.write_text(paths.AUDIT / "measures.csv", table.to_csv(index=False))


def predicted(wrong: Sequence[int]) -> np.ndarray:
    """P(Truck) of each image, wrong for these."""
    return np.where(np.isin(np.arange(COUNT), wrong), 0.9 - 0.8 * LABELS, 0.1 + 0.8 * LABELS)


def model(variant: str, seed: int, wrong: Sequence[int], **wrong_under: Sequence[int]) -> Result:
    """A model that is wrong for some images, and for others when they are corrupted; all images are corrupted."""
    table = predictions(predicted(wrong).tolist(), LABELS.tolist())
    corrupted = table[["name", "label"]].copy()
    for name in [*MILD, *STRONG]:
        corrupted[name] = predicted(wrong_under.get(name, wrong))
    described = cell(variant, seed=seed, recipe=recipe(head={"units": 2 + seed}))
    return replace(result(described, table), corrupted=corrupted)


FEW = range(0, COUNT, 11)  # 19 of both classes, dark and bright
BLURRED, STRONGLY_BLURRED, OCCLUDED, NOISY = (
    range(50),
    range(79),
    [*FEW, *range(5, COUNT, 11)],
    [*FEW, *range(5, 115, 11)],
)


def test_significant_drops_are_named_the_largest_first_and_each_corruption_once() -> None:
    weak = model("weak", 1, FEW, blur_1=BLURRED, blur_2=STRONGLY_BLURRED, occlusion_2=OCCLUDED, noise_2=NOISY)
    dark = model("dark", 1, range(40))  # of the 66 dark pictures
    fine = model("fine", 1, range(3, COUNT, 11))
    summary = slices.conclude([weak, dark, fine], CLASSES)
    assert summary["sentences"] == [
        "weak loses 30.0 points under strong blur and 9.0 under strong occlusion.",
        f"dark loses {100 * (160 / 200 - 26 / 66):.1f} points on dark pictures.",
        "fine is not significantly weaker on any of the 14 slices.",
    ]
    rows = {(row["variant"], row["slice"]): row for row in summary["table"]}
    assert (rows["weak", "noise_2"]["drop"], rows["weak", "noise_2"]["significant"]) == (0.05, False)
    assert len(rows) == 3 * (2 + 2 + 10)  # contrast, letterbox and colours are the same for all images
    assert rows["weak", "blur_1"]["drop"] == pytest.approx((50 - 19) / COUNT)
    assert (rows["weak", "truck"]["label"], rows["weak", "jpeg_2"]["label"]) == ("Truck", "strong compression")
    assert (rows["dark", "bright"]["accuracy"], rows["dark", "bright"]["significant"]) == (1, True)  # easier


def test_holms_correction_is_for_all_slices_of_all_variants() -> None:
    models = [model("weak", 1, FEW, blur_2=STRONGLY_BLURRED), model("fine", 1, FEW)]
    table = slices.compare_slices(models, CLASSES)
    assert table["p_corrected"].tolist() == holm(table["p"]).tolist()
    alone = slices.compare_slices(models[:1], CLASSES)
    worst = table.set_index(["variant", "slice"]).loc[("weak", "blur_2")]
    assert worst["p_corrected"] == pytest.approx(2 * alone.set_index("slice").loc["blur_2", "p_corrected"])


def test_a_variant_is_the_mean_of_its_seeds() -> None:
    models = [model("weak", seed, FEW, noise_2=range(count)) for seed, count in ((1, 59), (2, 79), (3, 99))]
    summary = slices.conclude(models, CLASSES)
    assert summary["sentences"] == ["weak (3 seeds) loses 30.0 points under strong noise."]
    (row,) = [row for row in summary["table"] if row["slice"] == "noise_2"]
    assert (row["seeds"], row["accuracy"]) == (3, pytest.approx(1 - 79 / COUNT))


def test_only_the_largest_drops_are_named() -> None:
    names = ("blur_2", "noise_2", "jpeg_2", "darkening_2", "occlusion_2")
    under = {name: range(60 + 10 * place) for place, name in enumerate(names)}
    (sentence,) = slices.conclude([model("weak", 1, [], **under)], CLASSES)["sentences"]
    assert sentence == (
        "weak loses 50.0 points under strong occlusion, 45.0 under strong darkening, 40.0 under strong compression, "
        "35.0 under strong noise and less on 1 more slice."
    )


def test_what_was_not_evaluated_on_slices_or_collapsed_is_left_out() -> None:
    collapsed = model("collapsed", 1, np.flatnonzero(LABELS).tolist())
    assert collapsed.scores["collapsed"]
    without = replace(model("without", 1, FEW), corrupted=pd.DataFrame(columns=["name", "label"]))
    fine = model("fine", 1, FEW)
    older = replace(fine, corrupted=fine.corrupted.drop(columns="noise_1"))
    smaller = replace(fine, corrupted=fine.corrupted.head(20))
    summary = slices.conclude([fine, collapsed, without, older, smaller], CLASSES)
    assert {(row["variant"], row["seeds"]) for row in summary["table"]} == {("fine", 1)}
    assert slices.conclude([collapsed, without], CLASSES) == {"sentences": [], "table": []}


def test_the_figure_says_which_slice_costs_most(tmp_path: Path) -> None:
    weak, fine = model("weak", 1, FEW, blur_2=STRONGLY_BLURRED), model("fine", 1, FEW)
    for models, title in (
        ([weak, fine], "weak loses 30.0 points: strong blur"),
        ([fine], "No slice is significantly weaker"),
    ):
        rows = slices.conclude(models, CLASSES)["table"]
        looks = figures.styles(drawing.variant_colours(["absent", *(item.variant for item in models)]))
        slice_figures.drops(rows, looks, tmp_path / "drawn.svg")
        drawn = (tmp_path / "drawn.svg").read_text()
        assert title in drawn
        assert all(label in drawn for label in ("Car", "dark pictures", "strong compression"))
        assert (">fine<" in drawn) == (len(models) > 1)  # one variant needs no legend


def test_of_many_variants_the_figure_shows_the_most_accurate(tmp_path: Path) -> None:
    many = [model(f"v{place}", 1, FEW) for place in range(8)]
    looks = figures.styles(drawing.variant_colours([item.variant for item in many][::-1]))
    slice_figures.drops(slices.conclude(many, CLASSES)["table"], looks, tmp_path / "drawn.svg")
    drawn = (tmp_path / "drawn.svg").read_text()
    assert "the 6 most accurate" in drawn
    assert [f">v{place}<" in drawn for place in range(8)] == [False, False, *[True] * 6]
