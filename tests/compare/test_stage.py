"""What `compare` writes, from results that were made up: no training, no store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from car_or_truck import drawing, files, paths
from car_or_truck.cells.results import Missing, Result
from car_or_truck.cells.times import Pace, write_pace
from car_or_truck.compare import figures, report, report_tables, stage
from car_or_truck.compare.comparison import Comparison
from car_or_truck.evaluate.scores import wilson
from car_or_truck.prepare.exclusions import read_exclusions
from helpers.cells import HISTORY, cell, dataset, predictions, result
from helpers.nets import recipe

COUNT = 40
LABELS = [number % 2 for number in range(COUNT)]
IMAGES = dataset(counts={"train": {"Car": 20, "Truck": 20}, "valid": {"Car": 20, "Truck": 20}})
AUDIT = {
    "identical": [["train/Car/a", "valid/Car/b"], ["train/Car/c", "train/Car/d"], ["valid/Car/e", "valid/Car/f"]],
    "excluded": [{"name": "valid/Car/g", "reason": "<a pickup>"}],
    "leaks": [["train/Car/a", "valid/Car/b"]],
    "dropped": ["train/Car/a"],
    **{key: [] for key in ("near_duplicates", "conflicts", "undecodable", "dark", "bright", "constant")},
}


def results() -> list[Result]:
    """`plain` and `wide`, which has one more block; 32 and 28 of 40 images right."""
    models = []
    for variant, changes, wrong in (
        ("plain", {}, 8),
        ("wide", {"blocks": [{"filters": 4}, {"filters": 8}]}, 12),
    ):
        history = HISTORY.assign(val_loss=[0.65, 0.651])
        described = cell(variant, IMAGES, recipe=recipe(loss={"label_smoothing": 0.05}, **changes))
        models.append(result(described, answers(wrong), history))
    return models


def answers(wrong: int, confidence: float = 0.9) -> pd.DataFrame:
    """Predictions that are wrong on the first so many images."""
    positive = [label != (place < wrong) for place, label in enumerate(LABELS)]
    return predictions([confidence if answer else 1 - confidence for answer in positive], LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which two models were compared, and one was missing."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        files.write_json(paths.AUDIT / "audit.json", AUDIT)
        (paths.PREPARED / "valid").mkdir(parents=True)
        np.save(paths.PREPARED / "valid" / "images.npy", np.zeros((COUNT, 32, 32, 3), np.uint8))
        for model in results():
            figure_folder = model.cell.report_folder / "figures"
            for name in ("learning_curves", "confusion", "architecture"):
                files.write_text(figure_folder / f"{name}.svg", f"<svg>{name} of {model.name}</svg>")
            Image.new("RGB", (8, 8)).save(figure_folder / "grad_cam.png")
            write_pace(model.cell.fingerprint, Pace(seconds=10, cpu_seconds=20, images_per_second=30))
        write()
        yield folder


def write() -> None:
    stage.compare(results(), [Missing("absent", 7, "is not trained")], IMAGES)


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "reports/comparison.json").read_text()))


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return unescape((folder / "reports/report.html").read_text())


def test_every_number_of_a_model_is_that_of_its_predictions(folder: Path, summary: dict[str, Any], page: str) -> None:
    table = pd.read_csv(folder / "reports/comparison.csv")
    assert list(table["variant"]) == ["plain", "wide", "absent"]
    best = table.iloc[0]
    assert best["val_binary_accuracy"] == 32 / COUNT
    assert (best["interval_low"], best["interval_high"]) == wilson(32, COUNT)
    assert summary["verdict"][0].startswith("plain leads with 80.0% accuracy on 40 validation images, but not")
    assert summary["pairs"][0]["difference"] == pytest.approx((32 - 28) / COUNT)
    assert (summary["models"][0]["only_first"], summary["models"][0]["only_second"]) == (4, 0)
    low, high = wilson(32, COUNT)
    for text in ("80.0%", "0.0", "none", f"{100 * low:.1f} to {100 * high:.1f}%", "100", "0.0 M"):
        assert f">{text}</td>" in page
    assert [item["why"] for item in summary["missing"]] == ["is not trained"]
    assert "absent-7 is missing: it is not trained." in summary["verdict"]
    output = summary["overfits"].split(". ")
    for line in [
        *output,
        *summary["verdict"],
        *summary["overfitting"],
        *summary["changes"],
        summary["pairs"][0]["words"],
    ]:
        assert line in page


@pytest.mark.usefixtures("folder")
def test_suspects_are_shown_with_the_mean_confidence_of_all_seeds() -> None:
    models = [result(cell("plain", IMAGES, seed=seed), answers(8, sure)) for seed, sure in ((7, 0.9), (8, 0.96))]
    html = report.render(Comparison.from_results(models, [], IMAGES), IMAGES)
    (suspects,) = re.findall(r"<h3>Label suspects</h3>(.*?)<details", html, re.DOTALL)
    assert re.findall(r"<figcaption>(.*?)<", suspects) == ["Car, predicted Truck 93%", "Truck, predicted Car 93%"] * 4


def test_each_model_is_shown_from_inside(page: str) -> None:
    for name in ("plain", "wide"):
        assert f"<li>{name} looks inside the picture: 5% of its heat is on the bars, 25% of the area.</li>" in page
        for figure in ("learning_curves", "confusion", "architecture"):
            assert f"{figure} of {name}-7" in page
        assert re.search(rf'<img src="data:image/webp[^"]*" alt="{name}-7: Grad-CAM', page)
        assert f"{name}-7: feature maps" not in page  # which a net with a base has none of


@pytest.mark.usefixtures("folder")
def test_models_are_shown_in_the_order_of_their_variants_means() -> None:
    models = [
        result(cell(variant, IMAGES, seed=seed), answers(wrong))
        for variant, seed, wrong in (("lucky", 7, 2), ("lucky", 8, 20), ("steady", 7, 8), ("steady", 8, 9))
    ]
    html = report.render(Comparison.from_results(models, [], IMAGES), IMAGES)
    assert re.findall(r"<summary>(\S+), the lower median of 2 seeds", html) == ["steady-8", "lucky-8"]


def test_calibration_is_told_before_and_after(summary: dict[str, Any], page: str) -> None:
    plain, wide, _ = summary["cells"]
    assert (plain["variant"], wide["variant"]) == ("plain", "wide")
    # Both say 0.9; plain is right on 32 of 40, so that its log-odds should be those of 0.8, and wide on 28: of 0.7.
    for row, share in ((plain, 0.8), (wide, 0.7)):
        assert row["val_expected_calibration_error"] == pytest.approx(0.9 - share)
        assert row["temperature"] == pytest.approx(np.log(9) / np.log(share / (1 - share)), rel=1e-3)
        assert row["calibrated_expected_calibration_error"] < 0.05
    for row in (plain, wide):
        assert f"<td>{row['temperature']:.2f}<td>{100 * row['val_expected_calibration_error']:.1f}" in page
    assert "A temperature lowers the calibration error of wide" in page


def test_costs_and_times_of_this_machine_are_in_no_output(folder: Path, summary: dict[str, Any]) -> None:
    columns = set(pd.read_csv(folder / "reports/comparison.csv").columns)
    assert {"multiply_adds", "parameters", "pareto"} <= columns
    for name in ("seconds", "cpu_seconds", "images_per_second"):
        assert name not in columns
        assert name not in json.dumps(summary)


def test_pairs_of_identical_files_are_called_pairs(page: str) -> None:
    for words in (
        "Found pairs of identical files: 3;",
        "training images that are also in validation: 1; images dropped from train: 1.",
    ):
        assert words in page
    assert "<li>Found no identical files with conflicting labels, no near-duplicate pairs, no undecodable files" in page


def test_the_lines_of_suspects_in_the_page_are_lines_of_the_file_of_exclusions(
    folder: Path, summary: dict[str, Any], page: str
) -> None:
    names = [f"valid/{number}.png" for number in range(8)]  # those that plain gets wrong
    expected = {"variant": "plain", "seeds": 1, "collapsed": False, "count": 8, "names": names}
    assert summary["suspects"] == expected
    assert list(pd.read_csv(folder / "reports/suspects.csv")["name"]) == names
    assert "8 validation images are predicted wrongly by the only seed of plain" in " ".join(page.split())
    (lines,) = re.findall(r"<pre>(valid/[^<]*)</pre>", page)
    path = folder / "exclude.csv"
    path.write_text("name,reason\n" + lines.replace(",\n", ",looks wrong\n"))
    assert [item["name"] for item in read_exclusions(path, names)] == names
    assert page.count("<figcaption>Truck, predicted Car 90%") >= 4


def test_the_page_says_which_images_were_excluded_and_why(page: str) -> None:
    assert "<li>Excluded: <code>valid/Car/g</code> (<a pickup>).</li>" in page


def test_without_slices_the_report_does_not_mention_them(summary: dict[str, Any], page: str) -> None:
    assert summary["slices"] == {"sentences": [], "table": []}
    assert "Where is it weak?" not in page


def test_a_small_rise_of_the_loss_is_not_printed_as_none(summary: dict[str, Any], page: str) -> None:
    for line in summary["overfitting"]:
        assert line.endswith("validation loss was lowest at epoch 1 and then rose by 0.001.")
    assert "Validation loss of plain ends 0.001 above its lowest" in page
    assert not re.search(r"(?:rose by|ends) 0\.00 ", page)


def test_a_single_change_is_told_with_its_interval_and_that_it_may_be_chance(summary: dict[str, Any]) -> None:
    (pair,) = summary["pairs"]
    interval = f"95% CI {-100 * pair['high']:+z.1f} to {-100 * pair['low']:+z.1f}"  # of wide minus plain
    assert summary["changes"] == [
        f"wide is plain with one more block (8 of 3x3): accuracy -10.0 points ({interval}), gap +0.0 points "
        "(of seed 7 alone: it may be chance)."
    ]


@pytest.mark.parametrize(
    ("size", "changes"), [(32, []), (16, ["same is plain with image_size 16 instead of 32: accuracy +0.0 points"])]
)
def test_the_size_of_the_data_is_no_change(size: int, changes: list[str]) -> None:
    table = predictions([0.2, 0.9, 0.7], [0, 1, 0])
    models = [result(cell("plain"), table), result(cell("same", recipe=recipe(image_size=size)), table)]
    lines = Comparison.from_results(models, [], dataset()).summary["changes"]
    assert [line.split(" (")[0].split(", gap")[0] for line in lines] == changes


def test_the_report_sorts_overfitting_by_its_grade() -> None:
    table = pd.DataFrame({"variant": ["a", "b", "c"], "seed": 1, "collapsed": [False, False, True], "keep": "last"})
    table = table.assign(grade=["slight", "strong", "collapsed"], generalization_gap=[0.04, 0.01, 0.0])
    for name in ("interval_low", "interval_high", "training_gap", "val_expected_calibration_error", "multiply_adds"):
        table[name] = 0.0
    report_table = report_tables.tabulate(table, [report_tables.GRADE], "severity")
    assert [[entry.text for entry in row] for row in report_table.rows] == [
        ["b", "strong"],
        ["a", "slight"],
        ["c*", "collapsed"],
    ]
    assert [row[-1].value for row in report_table.rows] == [3, 1, -1]


def test_the_same_results_give_the_same_bytes(folder: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "reports").rglob("*") if path.is_file()}

    before = contents()
    assert {"comparison.csv", "comparison.json", "curves.csv", "report.html", "roc.csv"} <= set(before)
    assert {"suspects.csv", "suspects.png"} <= set(before)
    write()
    assert contents() == before


def test_the_page_answers_both_questions_first(page: str) -> None:
    best = page.index("plain leads with 80.0% accuracy on 40 validation images")
    overfits = page.index("plain has the widest gap: 0.0 points between train and validation accuracy (none).")
    assert best < overfits < page.index("<svg") < page.index('id="overview"')


def test_curves_that_are_not_comparable_are_said_to_be(page: str) -> None:
    assert "only train has label smoothing 0.05 (plain); label smoothing 0.05 (wide)." in " ".join(page.split())


def test_each_variant_has_its_colour_in_the_tables(page: str) -> None:
    for variant, colour in drawing.variant_colours(["plain", "wide", "absent"]).items():
        assert f'<i style="background:{colour}"></i>{variant}</td>' in page


def test_ten_variants_look_unlike_in_figures() -> None:
    looks = figures.styles(drawing.variant_colours([f"v{number}" for number in range(10)]))
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == 10


def test_what_differs_in_precision_too_is_not_told_to_differ_in_one_setting() -> None:
    assert Comparison.from_results(results(), [], IMAGES).summary["changes"]
    plain, wide = results()
    wide = replace(wide, cell=wide.cell.model_copy(update={"precision": "mixed_bfloat16"}))
    summary = Comparison.from_results([plain, wide], [], IMAGES).summary
    assert summary["changes"] == []
    words = "Part of a difference may be due to the precision: plain with float32; wide with mixed_bfloat16."
    assert words in summary["verdict"]


def test_seeds_of_one_variant_that_differ_in_precision_are_named() -> None:
    plain, wide = results()
    other = replace(plain, cell=plain.cell.model_copy(update={"seed": 2, "precision": "mixed_bfloat16"}))
    words = "Part of a difference may be due to the precision: plain with float32 and mixed_bfloat16"
    assert (
        f"{words}; wide with float32." in Comparison.from_results([plain, other, wide], [], IMAGES).summary["verdict"]
    )
    assert f"{words}." in Comparison.from_results([plain, other], [], IMAGES).summary["verdict"]
