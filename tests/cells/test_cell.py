"""The fingerprint: what is in it, what is not, and that a cell survives its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from car_or_truck import files
from car_or_truck.cells import cell as cells
from car_or_truck.cells.cell import Cell, TrainedCell, read_dataset, read_trained
from car_or_truck.errors import Failure
from helpers.cells import HISTORY, cell, dataset, setup, trained, write_training
from helpers.nets import EVERYTHING, VARIANTS, recipe

RANDOM_BASE = {"base": {"application": "VGG16", "weights": None}, "blocks": []}
RECIPES = {**VARIANTS, "everything": recipe(**EVERYTHING), "random-base": recipe(**RANDOM_BASE)}


@pytest.mark.parametrize("variant", RECIPES)
def test_a_cell_survives_its_file(variant: str, tmp_path: Path) -> None:
    original = trained(cell(variant, recipe=RECIPES[variant]))
    assert original.recipe == RECIPES[variant]  # not by way of its JSON with something left out
    files.write_json(tmp_path / "cell.json", original.model_dump(mode="json", by_alias=True))
    assert files.read_model(tmp_path / "cell.json", TrainedCell, "") == original
    assert json.loads((tmp_path / "cell.json").read_text())["cell"] == original.fingerprint


def test_a_cell_cannot_be_changed_and_knows_no_other_key() -> None:
    original = cell()
    with pytest.raises(ValidationError, match="frozen"):
        original.seed = 8  # type: ignore[misc]
    facts = original.model_dump(by_alias=True)
    for where in (facts, facts["data"], facts["recipe"]["head"]):
        where["wrong"] = 1
        with pytest.raises(ValidationError, match="wrong"):
            Cell.model_validate(facts)
        del where["wrong"]
    assert Cell.model_validate(facts) == original


CHANGES: dict[str, dict[str, Any]] = {
    "variant": {"variant": "other"},
    "seed": {"seed": 8},
    "recipe": {"recipe": recipe(epochs=3)},
    "a default of the recipe": {"recipe": recipe(schedule={"name": "cosine"})},
    "batch size": {"batch_size": 8},
    "precision": {"precision": "mixed_bfloat16"},
    "threads": {"threads": 1},
    "pixels": {"images": dataset(arrays={"train": "1" * 64, "valid": "3" * 64})},
    "names of the images": {"images": dataset(digest="e" * 64)},
    "classes": {"images": dataset(classes=("Truck", "Car"))},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_changes_with_all_that_decides_the_numbers(changes: dict[str, Any]) -> None:
    assert cell(**changes).fingerprint != cell().fingerprint == cell().fingerprint


def test_random_and_pretrained_weights_are_different_cells() -> None:
    imagenet = recipe(base={"application": "VGG16"}, blocks=[])
    random_cell, pretrained_cell = cell(recipe=recipe(**RANDOM_BASE)), cell(recipe=imagenet)
    assert random_cell.fingerprint != pretrained_cell.fingerprint
    assert random_cell.recipe.base is not None
    assert random_cell.recipe.base.weights is None


def test_the_fingerprint_changes_with_the_training_code_and_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cell()
    for path in cells.CODE.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(cells, "CODE", tmp_path)
    assert cell() == before  # wherever the code lies
    (tmp_path / "fit.py").write_text((tmp_path / "fit.py").read_text() + "# edited\n")
    assert cell().fingerprint != before.fingerprint
    monkeypatch.undo()
    monkeypatch.setattr(cells, "version", lambda name: "0.0")
    assert cell().fingerprint != before.fingerprint
    assert set(cell().versions) == {"keras", "numpy", "tensorflow"}


def test_files_that_were_dropped_before_training_are_not_in_the_fingerprint() -> None:
    assert cell(images=dataset(raw_digest="s" * 64)) == cell()
    assert "raw_digest" not in cell().model_dump()["data"]


def test_a_cell_says_its_name_its_side_and_what_it_saw() -> None:
    net_cell = cell("net", seed=0)
    assert (net_cell.name, net_cell.side, net_cell.stand_in) == ("net-0", 32, False)
    assert (net_cell.model_folder, net_cell.report_folder) == (Path("models/net/0"), Path("reports/cells/net/0"))
    drawn = cell(images=dataset(stand_in=True, source="rendered"), recipe=recipe(image_size=24))
    assert (drawn.side, drawn.stand_in) == (24, True)
    assert net_cell.data.count("valid") == 5
    assert net_cell.data.majority == ("Car", 3 / 5)


def test_a_wrong_setup_is_refused() -> None:
    for changes in ({"precision": "auto"}, {"threads": None}, {"batch_size": 16.0}):
        with pytest.raises(ValidationError, match=next(iter(changes))):
            setup(**changes)


def test_a_folder_that_was_copied_under_another_name_is_not_taken_for_that_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained_cell = trained(cell("net"))
    write_training(trained_cell)
    loaded_cell, history = read_trained("net", 7)
    assert loaded_cell == trained_cell
    assert history.equals(HISTORY)
    trained_cell.model_folder.rename("models/net/8")
    with pytest.raises(Failure, match=r"models/net/8 holds net-7, not net-8. Run `dvc repro train@net-8`."):
        read_trained("net", 8)


@pytest.mark.parametrize(
    ("file", "content"), [("cell.json", "{}"), ("history.csv", ""), ("history.csv", "epoch,loss\n1,0.5\n")]
)
def test_a_training_that_cannot_be_read_names_the_file_and_the_way_out(
    file: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_training(trained(cell("net")))
    (tmp_path / "models/net/7" / file).write_text(content)
    with pytest.raises(Failure, match=rf"models/net/7/{file} cannot be read \(.+\). Run `dvc repro train@net-7`."):
        read_trained("net", 7)


def test_prepared_images_are_read_with_their_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match=r"dataset.json cannot be read .* Run `dvc repro prepare`, or `dvc pull`."):
        read_dataset()
    files.write_json(Path("data/prepared/dataset.json"), dataset().model_dump(mode="json"))
    assert read_dataset() == dataset()
