"""results/: what is kept of each model, what is kept of earlier workspaces, and that the repository's own is sound."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from car_or_truck import files, paths
from car_or_truck.cells.cell import Dataset, TrainedCell
from car_or_truck.cells.results import read_recorded
from car_or_truck.cells.times import Pace, write_pace
from car_or_truck.commands import record
from car_or_truck.compare import report
from car_or_truck.compare.comparison import Comparison
from car_or_truck.errors import Failure
from car_or_truck.evaluate.scores import wilson
from car_or_truck.params import Params
from car_or_truck.params import load as load_params
from helpers.cells import HISTORY, cell, dataset, predictions, result, trained, write_evaluation, write_training
from helpers.clones import ROOT, Project, digests
from helpers.nets import recipe

COUNTS = {"train": {"Car": 20, "Truck": 20}, "valid": {"Car": 20, "Truck": 20}}
IMAGES = dataset(counts=COUNTS)
LABELS = [number % 2 for number in range(40)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, with the images of IMAGES, and a record without figures, which take seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "draw", lambda *_: {})
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    files.write_json(paths.DATASET, IMAGES.model_dump(mode="json"))
    return tmp_path


def params(*variants: str, seeds: tuple[int, ...] = (7,), **changes: Any) -> Params:
    loaded = load_params(ROOT / "params.yaml")
    chosen = loaded.train.model_copy(update={"variants": variants, "seeds": seeds, "batch_size": 16})
    return loaded.model_copy(update={"train": chosen, "variants": dict.fromkeys(variants, recipe(**changes))})


def write(variant: str, seed: int, wrong: int, images: Dataset = IMAGES, **changes: Any) -> TrainedCell:
    """A model as train and evaluate leave it, which gets so many of the 40 images wrong."""
    described = cell(variant, images, seed=seed, recipe=recipe(**changes))
    probability = [0.1 + 0.8 * (label != (place < wrong)) for place, label in enumerate(LABELS)]
    outcome = result(described, predictions(probability, LABELS))
    write_training(outcome.cell, HISTORY)
    files.write_json(outcome.cell.report_folder / "evaluation.json", dict(outcome.scores))
    files.write_text(outcome.cell.report_folder / "predictions.csv", outcome.predictions.to_csv(index=False))
    return outcome.cell


def lose(*variants: str) -> None:
    """As a workspace that did not last."""
    for variant in variants:
        shutil.rmtree(paths.MODELS / variant)
        shutil.rmtree(paths.CELLS / variant)


def rows() -> dict[str, list[str]]:
    """The first table of results/README.md: its cells by variant."""
    lines = re.findall(r"^\| `(.+?)` \| (.+) \|$", Path("results/README.md").read_text(), re.MULTILINE)
    return {name: rest.split(" | ") for name, rest in lines if rest.count(" | ") > 3}


@pytest.mark.usefixtures("workspace")
def test_models_of_earlier_workspaces_stay_and_are_compared_with_those_of_this_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_pace(write("plain", 7, 4).fingerprint, Pace(30.0, 50.25, 100.0))
    record.record(params("plain"))
    lose("plain")
    write("plain", 8, 6)
    write("wide", 7, 12, blocks=[{"filters": 4}, {"filters": 8}])
    capsys.readouterr()
    both = params("plain", "wide").model_copy(
        update={"variants": {"plain": recipe(), "wide": recipe(blocks=[{"filters": 4}, {"filters": 8}])}}
    )
    record.record(both.model_copy(update={"train": both.train.model_copy(update={"seeds": (7, 8)})}))
    output = capsys.readouterr().out
    assert output == ("results: 2 models from here, 1 kept from before.\nNot recorded: wide-8, which is not trained.\n")
    table = pd.read_csv("results/comparison.csv")
    assert set(zip(table["variant"], table["seed"], strict=True)) == {("plain", 7), ("plain", 8), ("wide", 7)}
    assert rows()["plain"][:3] == ["87.50%", "85.00% to 90.00%", "2"]
    assert rows()["wide"][:3] == ["70.00%", "", "1"]
    origins = pd.read_csv("results/origins.csv").set_index("model")
    assert origins["cpu_seconds"].dropna().to_dict() == {"plain-7": 50.2}
    assert "plain and wide do not differ significantly on these 40 images" in Path("results/README.md").read_text()


@pytest.mark.usefixtures("workspace")
def test_models_of_a_recipe_that_has_changed_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    write("plain", 7, 4)
    write("plain", 8, 4)
    record.record(params("plain", seeds=(7, 8)))
    lose("plain")
    write("plain", 7, 2, epochs=3)
    record.record(params("plain", epochs=3))
    assert "Dropped: plain-8; plain here has another recipe" in capsys.readouterr().out
    assert [path.name for path in Path("results/cells/plain").iterdir()] == ["7"]
    assert rows()["plain"][2] == "1"


@pytest.mark.usefixtures("workspace")
def test_seeds_that_differ_in_more_than_their_seed_are_refused() -> None:
    write("plain", 7, 4)
    described = trained(cell("plain", IMAGES, seed=8, precision="mixed_bfloat16"))
    write_training(described)
    write_evaluation(described, predictions([0.5] * 40, LABELS))
    with pytest.raises(Failure, match=r"^plain-7 and plain-8 differ in precision, code or versions"):
        record.record(params("plain", seeds=(7, 8)))
    assert not Path("results").exists()


@pytest.mark.usefixtures("workspace")
def test_recording_again_changes_nothing() -> None:
    write_pace(write("plain", 7, 4).fingerprint, Pace(30.0, 50.25, 100.0))
    record.record(params("plain"))
    before = {path: path.read_bytes() for path in sorted(Path("results").rglob("*")) if path.is_file()}
    record.record(params("plain"))
    assert {path: path.read_bytes() for path in sorted(Path("results").rglob("*")) if path.is_file()} == before


@pytest.mark.usefixtures("workspace")
def test_models_of_other_images_never_stand_beside_these() -> None:
    write("plain", 7, 4)
    record.record(params("plain"))
    others = dataset(counts=COUNTS, arrays={"train": "3" * 64, "valid": "4" * 64})
    files.write_json(paths.DATASET, others.model_dump(mode="json"))
    lose("plain")
    write("plain", 7, 4, others)
    before = Path("results/comparison.csv").read_bytes()
    words = r"^results/cells/plain/7 is of other images .* For a new record, move results/ away"
    with pytest.raises(Failure, match=words):
        record.record(params("plain"))
    assert Path("results/comparison.csv").read_bytes() == before


@pytest.mark.usefixtures("workspace")
def test_a_broken_record_is_named_and_nothing_is_written() -> None:
    write("plain", 7, 4)
    record.record(params("plain"))
    lose("plain")
    write("plain", 8, 4)
    Path("results/cells/plain/7/predictions.csv").write_text("")
    with pytest.raises(Failure, match=r"^results/cells/plain/7 is not whole. Restore it, for instance with git"):
        record.record(params("plain", seeds=(8,)))
    Path("results/cells/plain/7/history.csv").unlink()
    with pytest.raises(Failure, match=r"history.csv cannot be read .* Restore results/cells/plain/7, for instance"):
        record.record(params("plain", seeds=(8,)))
    assert not Path("results/cells/plain/8").exists()


@pytest.mark.usefixtures("workspace")
def test_models_here_that_params_does_not_name_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    write("plain", 7, 4)
    write("plain", 8, 4)
    write("other", 7, 4)
    record.record(params("plain"))
    output = capsys.readouterr().out
    assert "results: 1 model from here" in output
    for name in ("plain-8", "other-7"):
        assert f"Not recorded: {name}, which train.variants and train.seeds do not name." in output


@pytest.mark.usefixtures("workspace")
def test_a_persons_copy_of_a_model_in_the_record_is_none_of_its_models() -> None:
    write("plain", 7, 4)
    record.record(params("plain"))
    before = Path("results/comparison.csv").read_bytes()
    for name in ("old-7", "07"):
        shutil.copytree("results/cells/plain/7", f"results/cells/plain/{name}")
    record.record(params("plain"))
    assert Path("results/comparison.csv").read_bytes() == before


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("path", ["dvc.lock", "results/dvc.lock"])
def test_a_lock_file_with_conflicts_is_named_and_nothing_is_written(path: str) -> None:
    write("plain", 7, 4)
    record.record(params("plain"))
    write("plain", 8, 4)
    Path(path).write_text("<<<<<<< HEAD\nstages:\n")
    os.utime(path, (0, 0))  # nobody is writing it
    with pytest.raises(Failure, match=rf"^{path} is not valid YAML: .* Run `git checkout HEAD -- {path}`"):
        record.record(params("plain", seeds=(7, 8)))
    assert not Path("results/cells/plain/8").exists()


def test_a_pipeline_is_recorded_as_its_lock_file_has_it(project: Project) -> None:
    before = digests(project.root)
    assert "results: 2 models from here, 0 kept from before." in project.run("car-or-truck", "record")
    assert digests(project.root) == before
    check(project.root / "results")
    assert "Synthetic images, not photographs" in (project.root / "results/README.md").read_text()
    table = pd.read_csv(project.root / "reports/comparison.csv")
    pd.testing.assert_frame_equal(pd.read_csv(project.root / "results/comparison.csv"), table)
    assert (project.root / "results/figures/loss.png").is_file()
    assert not list((project.root / "results").rglob("suspects*"))  # they show images


def check(folder: Path) -> None:
    """That every number of a record follows from the predictions in it, and these are what the pipeline wrote."""
    lock = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    table = pd.read_csv(folder / "comparison.csv").set_index(["variant", "seed"])
    cells = [path.parent for path in sorted(folder.glob("cells/*/*/cell.json"))]
    assert {(path.parent.name, int(path.name)) for path in cells} == set(table.index)
    for path in cells:
        recorded = read_recorded(path)
        outs = {out["path"]: out["md5"] for out in lock[f"evaluate@{recorded.name}"]["outs"]}
        for name in ("evaluation.json", "predictions.csv"):
            digest = hashlib.md5((path / name).read_bytes()).hexdigest()
            assert outs[f"reports/cells/{recorded.variant}/{recorded.seed}/{name}"] == digest
        row, right = table.loc[recorded.variant, recorded.seed], recorded.correct
        assert row["val_binary_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
        low, high = wilson(int(right.sum()), len(right))
        assert np.allclose([row["interval_low"], row["interval_high"]], [low, high], atol=1e-6)
    summary = json.loads((folder / "comparison.json").read_text())
    by_name = {recorded.name: recorded for recorded in map(read_recorded, cells)}
    results = [by_name[name] for name in summary["trained"]]
    images = Dataset(**results[0].cell.data.model_dump(), raw_digest="not recorded")
    comparison = Comparison.from_results(results, [], images)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "comparison.csv"), comparison.table, check_dtype=False)
    for part in ("verdict", "overfits", "changes", "overfitting"):
        assert comparison.summary[part] == summary[part]
    assert [pair["words"] for pair in comparison.summary["pairs"]] == [pair["words"] for pair in summary["pairs"]]


def test_the_record_of_this_repository_follows_from_its_predictions() -> None:
    check(ROOT / "results")


@pytest.mark.parametrize("page", ["README.md", "notebooks/lesson.py"])
def test_the_intervals_on_a_page_are_those_of_the_record(page: str) -> None:
    recorded = (ROOT / "results/README.md").read_text()
    for low, high in pd.read_csv(ROOT / "results/comparison.csv")[["interval_low", "interval_high"]].to_numpy():
        recorded += f"95% CI {100 * low:.1f} to {100 * high:.1f}\n"
    text = " ".join((ROOT / page).read_text().replace("\n#", "\n").split())
    intervals = re.findall(r"95% CI (-?[\d.]+) to (-?[\d.]*\d)", text)
    assert len(intervals) > 2
    assert [pair for pair in intervals if f"95% CI {' to '.join(pair)}" not in recorded] == []


def test_the_table_of_the_readme_is_that_of_the_record() -> None:
    recorded = pd.read_csv(ROOT / "results/comparison.csv")
    readme_rows = re.findall(
        r"^\| `([a-z-]+)` \| [^|]+ \| ([\d.]+%) \| (\d+) \| ([\d,]+) \| (\w+) \|",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    precisions = pd.read_csv(ROOT / "results/origins.csv").set_index("model")["precision"].str.removeprefix("mixed_")
    assert {name for name, *_ in readme_rows} == set(recorded["variant"])
    for name, *row in readme_rows:
        table = recorded[recorded["variant"] == name]
        mean = table["val_binary_accuracy"].mean()
        (precision,) = set(precisions[table["variant"] + "-" + table["seed"].astype(str)])
        assert row == [f"{mean:.1%}", str(len(table)), f"{table['parameters'].iloc[0]:,}", precision], name
