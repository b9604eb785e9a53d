"""Stage `evaluate` on a small model that was never trained: what it writes, and that its numbers agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from car_or_truck import paths
from car_or_truck.cells.cell import TrainedCell
from car_or_truck.evaluate import stage
from car_or_truck.evaluate.reliability import Reliability
from car_or_truck.evaluate.scores import all_scores
from car_or_truck.train import batches, runtime
from helpers.cells import HISTORY, cell, dataset, trained
from helpers.nets import recipe, split

SIZES = {"train": 24, "valid": 20, "test": 10}


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainedCell]:
    """A cell whose model and images are there, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    runtime.start(3, request.param)
    counts = {}
    for name, count in SIZES.items():
        part = split(count, 32, "train" if name == "train" else "valid")
        folder = paths.PREPARED / name
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", part.images)
        np.save(folder / "labels.npy", part.labels)
        pd.DataFrame({"name": [f"{number}.png" for number in range(count)]}).to_csv(folder / "index.csv")
        counts[name] = {"Car": int((part.labels == 0).sum()), "Truck": int(part.labels.sum())}
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


def test_every_number_follows_from_the_same_predictions(made: TrainedCell, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    in_order = batches.in_order

    def recorded(part: batches.Split, batch_size: int) -> Any:
        sizes.append(batch_size)
        return in_order(part, batch_size)

    monkeypatch.setattr(batches, "in_order", recorded)
    scores = stage.evaluate(made, HISTORY)
    assert sizes == [7, 7, 7]  # the batch size that it was trained with

    folder = made.report_folder
    evaluation, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("evaluation", "metrics"))
    assert evaluation == {"cell": made.fingerprint, **scores, "describes": evaluation["describes"]}
    assert metrics == {name: evaluation[name] for name in (*stage.METRICS, "describes")}
    for prefix, name in (("val", "predictions.csv"), ("test", "test_predictions.csv")):
        table = pd.read_csv(folder / name)
        found = all_scores(table["label"].to_numpy(np.uint8), table["probability"].to_numpy())
        assert {f"{prefix}_{key}": value for key, value in found.items()}.items() <= scores.items()  # to the last bit
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
    assert measured.limit == np.inf  # 20 images cannot tell what one in a hundred is


def test_what_was_selected_on_validation_says_so() -> None:
    lines = stage.describe(trained(cell(recipe=recipe(keep="best"))))
    assert "keep: best selected the weights on validation, so val_* are optimistically biased" in lines
    assert not [line for line in stage.describe(trained(cell())) if "biased" in line]
    assert not [line for line in lines if line.startswith("test_*")]  # there is no such split
