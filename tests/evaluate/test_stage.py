"""Stage `evaluate` on a small model that was never trained: what it writes, and that its numbers agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from car_or_truck import files, paths
from car_or_truck.cells.cell import TrainedCell
from car_or_truck.evaluate import stage
from car_or_truck.evaluate.corruptions import conditions
from car_or_truck.evaluate.reliability import Reliability
from car_or_truck.evaluate.scores import all_scores
from car_or_truck.params import Evaluate
from car_or_truck.params import load as load_params
from car_or_truck.prepare.audit import measure
from car_or_truck.train import batches, runtime
from car_or_truck.train.scaling import resized
from helpers.cells import HISTORY, cell, dataset, trained
from helpers.clones import ROOT
from helpers.nets import recipe, split

SIZES = {"train": 24, "valid": 40, "test": 10}


@pytest.fixture(params=["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def trained_cell(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TrainedCell]:
    """A cell whose model and images are there, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    runtime.start(3, request.param)
    counts, measures = {}, []
    for name, count in SIZES.items():
        part = split(count, 32, "train" if name == "train" else "valid")
        folder = paths.PREPARED / name
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", part.images)
        np.save(folder / "labels.npy", part.labels)
        names = [f"{number}.png" for number in range(count)]
        checksums = [hashlib.sha256(image.tobytes()).hexdigest() for image in part.images]
        index = pd.DataFrame({"name": names, "label": part.labels, "sha256": checksums})
        index.to_csv(folder / "index.csv", index=False)
        audited = pd.DataFrame([measure(image)._asdict() for image in part.images]).assign(split=name, name=names)
        measures.append(audited)
        counts[name] = {"Car": int((part.labels == 0).sum()), "Truck": int(part.labels.sum())}
    files.write_text(paths.AUDIT / "measures.csv", pd.concat(measures).to_csv(index=False))
    images = dataset(counts=counts)
    described = trained(cell("net", images, precision=request.param, batch_size=7, recipe=recipe(image_size=16)))
    try:
        from car_or_truck.train import convnet
        from car_or_truck.train.fit import save

        described.model_folder.mkdir(parents=True)
        net = convnet.inference_copy(convnet.build(described.recipe, 32))
        save(net, described.model_folder / "model.keras")
        yield described
    finally:
        runtime.start(0, "float32")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    """The images and the batch size of each pass over a split, as they come."""
    noted: list[tuple[Any, int]] = []
    in_order = batches.in_order

    def note(part: batches.Split, batch_size: int) -> Any:
        noted.append((part.images, batch_size))
        return in_order(part, batch_size)

    monkeypatch.setattr(batches, "in_order", note)
    return noted


def settings(**changes: Any) -> Evaluate:
    return load_params(ROOT / "params.yaml").evaluate.model_copy(update=changes)


def test_every_number_follows_from_the_same_predictions(
    trained_cell: TrainedCell, passes: list[tuple[Any, int]]
) -> None:
    scores = stage.evaluate(trained_cell, HISTORY, settings())
    assert [size for _, size in passes] == [7] * (3 + 10)  # the batch size that it was trained with; ten corruptions

    folder = trained_cell.report_folder
    evaluation, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("evaluation", "metrics"))
    assert evaluation == {"cell": trained_cell.fingerprint, **scores, "describes": evaluation["describes"]}
    assert metrics == {name: evaluation[name] for name in (*stage.METRICS, "describes")}
    for prefix, name in (("val", "predictions.csv"), ("test", "test_predictions.csv")):
        table = pd.read_csv(folder / name)
        values = all_scores(table["label"].to_numpy(np.uint8), table["probability"].to_numpy())
        assert {f"{prefix}_{key}": value for key, value in values.items()}.items() <= scores.items()  # to the last bit
        right = (table["probability"] > 0.5) == (table["label"] == 1)
        assert scores[f"{prefix}_binary_accuracy"] == right.mean()
    assert scores["generalization_gap"] == scores["train_binary_accuracy"] - scores["val_binary_accuracy"]
    assert scores["collapsed"] == (len(set(pd.read_csv(folder / "predictions.csv")["probability"] > 0.5)) == 1)
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {"learning_curves", "confusion", "grad_cam"}

    measured = Reliability.load(folder / "reliability.npz")
    assert measured is not None
    valid = pd.read_csv(folder / "predictions.csv")
    assert measured.temperature == scores["temperature"]
    assert list(measured.nonconformity) == sorted((valid["label"] - valid["probability"]).abs())
    assert measured.limit == np.inf  # 40 images cannot tell what one in a hundred is


@pytest.mark.parametrize("trained_cell", ["float32"], indirect=True)
def test_slices_follow_from_predictions_of_the_same_corrupted_images_for_every_model(
    trained_cell: TrainedCell, passes: list[tuple[Any, int]]
) -> None:
    scores = stage.evaluate(trained_cell, HISTORY, settings())
    folder = trained_cell.report_folder
    predictions, corrupted, slices = (
        pd.read_csv(folder / f"{name}.csv") for name in ("predictions", "corrupted", "slices")
    )
    valid = batches.load(paths.PREPARED, "valid")
    assert len(corrupted) == sum(np.ceil(0.3 * (valid.labels == label).sum()) for label in (0, 1))
    assert list(corrupted.columns) == ["name", "label", *conditions(settings().corruptions)]
    places = [predictions["name"].tolist().index(name) for name in corrupted["name"]]
    assert corrupted["label"].tolist() == valid.labels[places].tolist()
    darker = resized(valid.images[places], 16) * 0.35  # darkened before it is scaled, to half its side
    assert np.abs(passes[-3][0].astype(float) - darker).max() <= 1.5
    table = slices.set_index("slice")
    clean = predictions.loc[places]
    before, after = (
        (frame["label"] == (frame[column] > 0.5)).mean()
        for frame, column in ((clean, "probability"), (corrupted, "blur_2"))
    )
    assert table.loc["blur_2", "accuracy"] == after == scores["slice.blur_2.val_binary_accuracy"]
    assert table.loc["blur_2", "drop"] == pytest.approx(before - after)
    of_class = predictions[predictions["label"] == 1]
    assert table.loc["truck", "accuracy"] == (of_class["probability"] > 0.5).mean()
    significant = slices.loc[slices["p_corrected"] < 0.05, "drop"]
    assert scores["largest_slice_drop"] == max([0.0, *significant])


@pytest.mark.parametrize("trained_cell", ["float32"], indirect=True)
def test_slices_can_be_switched_off(trained_cell: TrainedCell) -> None:
    scores = stage.evaluate(trained_cell, HISTORY, settings(slices=False))
    assert not [name for name in scores if "slice" in name]
    assert (trained_cell.report_folder / "corrupted.csv").read_text() == "name,label\n"
    assert (trained_cell.report_folder / "slices.csv").read_text() == "slice\n"
    assert "slice" not in (trained_cell.report_folder / "metrics.json").read_text()


def test_what_was_selected_on_validation_says_so() -> None:
    lines = stage.describe(trained(cell(recipe=recipe(keep="best"))))
    assert "val_*: the saved weights (epoch 2) on validation; positive class: Truck" in lines
    assert "keep: best selected the weights on validation, so val_* are optimistically biased" in lines
    assert not [line for line in stage.describe(trained(cell())) if "biased" in line]
    assert not [line for line in lines if line.startswith("test_*")]  # there is no such split
