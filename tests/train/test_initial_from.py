"""Starting from the weights that another variant ends with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_or_truck import params
from car_or_truck.cells import cell as cells
from car_or_truck.errors import Failure
from car_or_truck.files import read_json
from car_or_truck.train import runtime
from car_or_truck.train.checkpoint import Checkpoint
from helpers.clones import ROOT, Project

FINER = "  finer:\n    <<: *tutorial\n    initial_from: *tutorial\n    epochs: 1\n"


@pytest.fixture
def finer(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that also trains `finer`, which starts from `tutorial`."""
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("  tutorial:\n", "  tutorial: &tutorial\n") + FINER)
    project.edit(lambda tree: tree["train"].update(variants=["tutorial", "finer"]))
    monkeypatch.chdir(project.root)
    return project


def begun(path: Path, **changes: Any) -> tuple[list[Any], Checkpoint]:
    """What `finer` has for weights before its first epoch."""
    from car_or_truck.train import convnet
    from car_or_truck.train.fit import start_from_another

    recipe = params.load().variants["finer"]
    dataset = read_json(Path("data/prepared/dataset.json"), "")
    precision = runtime.start(31415, "auto")
    cell = cells.describe("finer", 31415, recipe, 16, precision, runtime.available_threads(), dataset)
    saved = Checkpoint(path)
    saved.read()
    assert recipe.initial_from
    first = recipe.initial_from.model_copy(update=changes)
    try:
        net = start_from_another(first, convnet.build(recipe, 32), cell, dataset, saved)
        return list(net.get_weights()), saved
    finally:
        runtime.start(0, "float32")


def test_it_starts_from_the_trained_cell_and_the_same_weights_come_without_one(
    finer: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    trained = keras.saving.load_model("models/tutorial/31415/model.keras").get_weights()
    found, _ = begun(tmp_path / "found.npz")
    assert "finer starts from the weights in models/tutorial/31415." in capsys.readouterr().out
    shutil.rmtree("models/tutorial")
    made, saved = begun(tmp_path / "made.npz")
    assert "finer.initial_from  epoch 2/2" in capsys.readouterr().out
    assert all(
        np.array_equal(*three[:2]) and np.array_equal(*three[1:]) for three in zip(trained, found, made, strict=True)
    )
    assert saved.state.epoch == 0
    again, _ = begun(tmp_path / "made.npz")  # killed before its first epoch
    assert not capsys.readouterr().out
    assert all(map(np.array_equal, again, made))
    assert not list((finer.root / ".dvc/tmp/training").glob("*.npz"))


def test_weights_that_do_not_fit_are_refused_before_any_training(finer: Project, tmp_path: Path) -> None:
    exercise = params.load().variants["exercise"]
    with pytest.raises(Failure, match=r"variants.finer.initial_from does not fit: it has weights .*, finer has"):
        begun(tmp_path / "cell.npz", blocks=exercise.blocks)


@pytest.mark.slow
def test_a_change_to_the_one_it_starts_from_makes_it_stale(finer: Project) -> None:
    finer.run("dvc", "repro", "--single-item", "train@finer-31415")
    assert "train@finer-31415" not in finer.stale()
    path = finer.root / "params.yaml"
    path.write_text(path.read_text().replace("epsilon: 0.01", "epsilon: 0.02", 1))
    assert {"train@tutorial-31415", "train@finer-31415"} <= finer.stale()


def test_a_name_instead_of_the_variant_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + FINER.replace("<<: *tutorial\n    ", "").replace("*", ""))
    with pytest.raises(Failure, match=r"finer.initial_from is 'tutorial': should be a variant, not its name"):
        params.load(path)
