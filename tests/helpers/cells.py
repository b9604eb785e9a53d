"""Cells and their results without a training: what `train` and `evaluate` would have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from car_or_truck import files
from car_or_truck.cells.cell import Cell, Dataset, TrainedCell
from car_or_truck.cells.results import Result
from car_or_truck.train.recipe import Setup
from helpers.nets import recipe

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "loss": [0.7, 0.6],
        "binary_accuracy": [0.5, 0.75],
        "val_loss": [0.65, 0.7],
        "val_binary_accuracy": [0.5, 0.6],
    }
)


def dataset(**changes: Any) -> Dataset:
    facts = {
        "source": "archive",
        "stand_in": False,
        "digest": "d" * 64,
        "raw_digest": "r" * 64,
        "arrays": {"train": "1" * 64, "valid": "2" * 64},
        "image_size": 32,
        "classes": ("Car", "Truck"),
        "counts": {"train": {"Car": 5, "Truck": 3}, "valid": {"Car": 3, "Truck": 2}},
    }
    return Dataset.model_validate(facts | changes)


def setup(**changes: Any) -> Setup:
    facts = {"recipe": recipe(), "seed": 7, "batch_size": 16, "precision": "float32", "threads": 2}
    return Setup.model_validate(facts | changes)


def cell(variant: str = "plain", images: Dataset | None = None, **changes: Any) -> Cell:
    return Cell.describe(variant, setup(**changes), images or dataset())


def trained(described: Cell, kept_epoch: int = 2) -> TrainedCell:
    facts = described.model_dump(by_alias=True) | {"kept_epoch": kept_epoch, "parameters": 100}
    return TrainedCell.model_validate(facts)


def predictions(probability: Sequence[float], labels: Sequence[int]) -> pd.DataFrame:
    names = [f"{number}.png" for number in range(len(labels))]
    return pd.DataFrame({"name": names, "label": labels, "probability": np.asarray(probability, float)})


def result(
    described: Cell, table: pd.DataFrame, history: pd.DataFrame = HISTORY, kept_epoch: int | None = None
) -> Result:
    """As `evaluate` would score it, with the table's predictions for every split; `kept_epoch`: else the last."""
    from car_or_truck.evaluate.stage import score

    trained_cell = trained(described, kept_epoch or len(history))
    scores = score(history, trained_cell.kept_epoch, {"train": table, "valid": table})
    scores |= {"parameters": 100, "multiply_adds": 1000, "heat_on_bars": 0.05, "bars": 0.25}
    return Result({"cell": trained_cell.fingerprint, **scores}, table, trained_cell, history)


def write_training(trained_cell: TrainedCell, history: pd.DataFrame = HISTORY) -> None:
    """As `train` leaves it, without the model."""
    files.write_json(trained_cell.model_folder / "cell.json", trained_cell.model_dump(mode="json", by_alias=True))
    files.write_text(trained_cell.model_folder / "history.csv", history.to_csv(index=False))


def write_evaluation(trained_cell: TrainedCell, table: pd.DataFrame) -> None:
    """As `evaluate` leaves it, as far as `compare` reads it."""
    files.write_json(
        trained_cell.report_folder / "evaluation.json", {"cell": trained_cell.fingerprint, "val_binary_accuracy": 0.5}
    )
    files.write_text(trained_cell.report_folder / "predictions.csv", table.to_csv(index=False))
