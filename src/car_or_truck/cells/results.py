"""The cells of params.yaml as `train` and `evaluate` left them: those that can be compared, and why others cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from car_or_truck import paths
from car_or_truck.cells import cell as cells
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.train.recipe import Recipe


@dataclass(frozen=True)
class Judged:
    """A cell that was trained and evaluated."""

    variant: str
    seed: int
    cell: dict[str, Any]  # cell.json
    recipe: Recipe
    history: pd.DataFrame
    scores: dict[str, Any]  # evaluation.json, without what is no number
    predictions: pd.DataFrame  # name, label, probability

    @property
    def name(self) -> str:
        """VARIANT-SEED."""
        return f"{self.variant}-{self.seed}"

    @property
    def folder(self) -> Path:
        """Where `evaluate` wrote."""
        return paths.report_folder(self.variant, self.seed)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each valid image was told right: [images]."""
        right: NDArray[np.bool_] = (
            (self.predictions["probability"] > 0.5) == (self.predictions["label"] == 1)
        ).to_numpy()
        return right


@dataclass(frozen=True)
class Missing:
    """A cell that params.yaml names and that cannot be compared."""

    variant: str
    seed: int
    why: str


def read(params: Params, dataset: dict[str, Any]) -> tuple[list[Judged], list[Missing]]:
    """Every cell that params.yaml names; `dataset` is data/prepared/dataset.json. A Failure where none can be compared.

    Cells are read by name, so what variants left behind that were dropped or renamed is not seen.
    """
    judged: list[Judged] = []
    missing: list[Missing] = []
    for variant, seed in params.cells:
        found = _read(variant, seed, params.variants[variant], dataset)
        if isinstance(found, Judged):
            judged.append(found)
        else:
            missing.append(found)
    if not judged:
        first, others = missing[0], len(missing) - 1
        rest = f" ({others} more cannot be compared either)" if others else ""
        raise Failure(f"There is nothing to compare: {first.variant}-{first.seed} {first.why}{rest}. Run `dvc repro`.")
    return judged, missing


def _read(variant: str, seed: int, recipe: Recipe, dataset: dict[str, Any]) -> Judged | Missing:
    try:
        cell, history = cells.read(variant, seed)
        trained = Recipe.model_validate(cell["recipe"])
    except (Failure, OSError, ValueError, KeyError):
        return Missing(variant, seed, "is not trained")
    if trained != recipe:
        return Missing(variant, seed, "was trained with other parameters than params.yaml has now")
    if cell["data"]["arrays"] != dataset["arrays"]:
        return Missing(variant, seed, "was trained on other images than data/prepared holds now")
    folder = paths.report_folder(variant, seed)
    try:
        evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        predictions = pd.read_csv(folder / "predictions.csv")
    except (OSError, ValueError):
        return Missing(variant, seed, "is not evaluated")
    if evaluation.get("cell") != cell["cell"]:
        return Missing(variant, seed, "is not evaluated since it was trained again")
    scores = {name: value for name, value in evaluation.items() if isinstance(value, int | float)}
    return Judged(variant, seed, cell, trained, history, scores, predictions)
