"""Which of the cells that params.yaml names can be compared, and why the others cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_or_truck.cells.cell import TrainedCell
from car_or_truck.cells.results import Missing, read_evaluation, read_results
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.params import load as load_params
from helpers.cells import cell, dataset, predictions, trained, write_evaluation, write_training
from helpers.clones import ROOT
from helpers.nets import recipe

TABLE = predictions([0.2, 0.5, 0.51, 0.9, 0.1], [0, 0, 0, 1, 1])


@pytest.fixture(autouse=True)
def enter_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(*variants: str, **settings: Any) -> Params:
    loaded = load_params(ROOT / "params.yaml")
    settings = {"variants": variants, "seeds": (7,), "batch_size": 16} | settings
    chosen = loaded.train.model_copy(update=settings)
    return loaded.model_copy(update={"train": chosen, "variants": dict.fromkeys(variants, recipe())})


def write_cell(variant: str = "plain") -> TrainedCell:
    trained_cell = trained(cell(variant))
    write_training(trained_cell)
    write_evaluation(trained_cell, TABLE)
    return trained_cell


def test_a_result_is_the_training_and_its_evaluation() -> None:
    trained_cell = write_cell()
    (result,), missing = read_results(params("plain"), dataset())
    assert (result.cell, result.name, result.variant, result.seed) == (trained_cell, "plain-7", "plain", 7)
    assert missing == []
    assert result.correct.tolist() == [True, True, False, True, False]  # 0.5 is not above the threshold
    assert np.array_equal(result.labels, TABLE["label"])
    assert np.array_equal(result.probability, TABLE["probability"])


def test_an_evaluation_of_another_training_is_none() -> None:
    trained_cell = write_cell()
    assert read_evaluation(trained_cell) is not None
    retrained_cell = trained(cell(batch_size=8))
    write_training(retrained_cell)
    assert read_evaluation(retrained_cell) is None
    with pytest.raises(Failure, match="plain-7 is not evaluated since it was trained again"):
        read_results(params("plain", batch_size=8), dataset())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("evaluation.json", "{"),
        ("evaluation.json", "[]"),
        ("predictions.csv", ""),
        ("predictions.csv", "name,label\n"),
        ("predictions.csv", "name,label,probability\n0.png,0,0.2\n"),
    ],
)
def test_an_evaluation_that_cannot_be_read_is_none(file: str, content: str) -> None:
    trained_cell = write_cell()
    (trained_cell.report_folder / file).write_text(content)
    assert read_evaluation(trained_cell) is None
    (trained_cell.report_folder / file).unlink()
    assert read_evaluation(trained_cell) is None


def test_what_cannot_be_compared_says_why() -> None:
    write_cell("good")
    write_cell("copied").model_folder.rename("models/gone")
    Path("models/copied").mkdir(exist_ok=True)
    Path("models/copied/7").symlink_to(Path("models/good/7").resolve())
    write_training(trained(cell("unseen")))
    write_training(trained(cell("changed", recipe=recipe(epochs=9))))
    write_training(trained(cell("moved", images=dataset(arrays={"train": "1", "valid": "4"}))))
    relabelled = {"train": {"Car": 5, "Truck": 3}, "valid": {"Car": 2, "Truck": 3}}  # the last car is a truck
    write_training(trained(cell("relabelled", images=dataset(counts=relabelled))))
    variants = ("good", "absent", "copied", "unseen", "changed", "moved", "relabelled")
    results, missing = read_results(params(*variants), dataset())
    assert [result.name for result in results] == ["good-7"]
    assert missing == [
        Missing("absent", 7, "is not trained"),
        Missing("copied", 7, "is not trained"),
        Missing("unseen", 7, "is not evaluated"),
        Missing("changed", 7, "was trained with other parameters than params.yaml has now"),
        Missing("moved", 7, "was trained on other images than data/prepared holds now"),
        Missing("relabelled", 7, "was trained on other images than data/prepared holds now"),
    ]


@pytest.mark.parametrize("setting", [{"batch_size": 8}, {"precision": "mixed_bfloat16"}, {"threads": 1}])
def test_a_training_with_another_setting_of_train_cannot_be_compared(setting: dict[str, Any]) -> None:
    write_cell()
    with pytest.raises(Failure, match="plain-7 was trained with other parameters"):
        read_results(params("plain", **setting), dataset())
    assert read_results(params("plain", precision="float32", threads=2), dataset())[0]


def test_where_nothing_can_be_compared_the_first_reason_is_given() -> None:
    with pytest.raises(Failure) as caught:
        read_results(params("one", "two"), dataset())
    assert str(caught.value) == (
        "There is nothing to compare: one-7 is not trained (1 more cannot be compared either). Run `dvc repro`."
    )
