"""The cells of params.yaml as `train` and `evaluate` left them, and why others cannot be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from car_or_truck.cells.cell import Cell, Dataset, TrainedCell, cell_name, read_trained
from car_or_truck.errors import Failure
from car_or_truck.train.recipe import THRESHOLD

if TYPE_CHECKING:
    from car_or_truck.params import Params


@dataclass(frozen=True)
class Evaluation:
    """A model's predictions for one split, and the scores of its evaluation as far as they are known."""

    scores: dict[str, Any]  # of evaluation.json, or the few of metrics.json
    predictions: pd.DataFrame  # name, label, probability
    # name, label, and the probability under each corruption; no rows without evaluate.slices
    corrupted: pd.DataFrame = field(default_factory=pd.DataFrame, kw_only=True)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The true class of each image, 0 or 1: [images]."""
        return np.asarray(self.predictions["label"], np.uint8)

    @property
    def probability(self) -> NDArray[np.float64]:
        """P(second class) of each image: [images]."""
        return np.asarray(self.predictions["probability"], np.float64)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the prediction for each image is correct: [images]."""
        return np.asarray((self.probability > THRESHOLD) == (self.labels == 1))


@dataclass(frozen=True)
class Result(Evaluation):
    """A cell that is trained and evaluated."""

    cell: TrainedCell
    history: pd.DataFrame

    @property
    def name(self) -> str:
        """VARIANT-SEED."""
        return self.cell.name

    @property
    def variant(self) -> str:
        """The name of its recipe."""
        return self.cell.variant

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.cell.seed


@dataclass(frozen=True)
class Missing:
    """A cell that params.yaml names and that cannot be compared."""

    variant: str
    seed: int
    why: str

    @property
    def name(self) -> str:
        """VARIANT-SEED."""
        return cell_name(self.variant, self.seed)


def read_results(params: Params, dataset: Dataset) -> tuple[list[Result], list[Missing]]:
    """Every cell that params.yaml names; a Failure when none of them can be compared.

    Cells are looked up by name, so what removed or renamed variants left behind is ignored.
    """
    outcomes = [_read_result(*cell, params, dataset) for cell in params.cells]
    results = [item for item in outcomes if isinstance(item, Result)]
    missing = [item for item in outcomes if isinstance(item, Missing)]
    if not results:
        others = f" ({len(missing) - 1} more cannot be compared either)" if len(missing) > 1 else ""
        raise Failure(f"There is nothing to compare: {missing[0].name} {missing[0].why}{others}. Run `dvc repro`.")
    return results, missing


def suits(cell: Cell, params: Params) -> bool:
    """Whether a training by these parameters would be that of the cell."""
    settings = params.train
    return (
        cell.recipe == params.variants.get(cell.variant)
        and cell.batch_size == settings.batch_size
        and settings.precision in ("auto", cell.precision)
        and settings.threads in (None, cell.threads)
    )


def _read_result(variant: str, seed: int, params: Params, dataset: Dataset) -> Result | Missing:
    try:
        cell, history = read_trained(variant, seed)
    except Failure:
        return Missing(variant, seed, "is not trained")
    if not suits(cell, params):
        return Missing(variant, seed, "was trained with other parameters than params.yaml has now")
    if cell.data.splits != dataset.splits:
        return Missing(variant, seed, "was trained on other images than data/prepared holds now")
    evaluation = read_evaluation(cell)
    if evaluation is None:
        stale = (cell.report_folder / "evaluation.json").is_file()
        return Missing(variant, seed, "is not evaluated" + " since it was trained again" * stale)
    return Result(evaluation.scores, evaluation.predictions, cell, history, corrupted=evaluation.corrupted)


def seed_folders(root: Path) -> list[Path]:
    """The folders VARIANT/SEED in `root` that have a cell.json: not a person's copies, nor what a kill left."""
    folders = sorted(path.parent for path in root.glob("*/*/cell.json"))
    return [folder for folder in folders if folder.name.isdecimal() and folder.name == str(int(folder.name))]


def read_recorded(folder: Path) -> Result:
    """A cell from a folder VARIANT/SEED that holds all that is small of it; a Failure when it is not whole."""
    cell, history = read_trained(folder.parent.name, int(folder.name), folder)
    evaluation = read_evaluation(cell, folder)
    if evaluation is None:
        raise Failure(f"{folder} is not whole. Restore it, for instance with git, or remove it.")
    return Result(evaluation.scores, evaluation.predictions, cell, history)


def read_evaluation(cell: TrainedCell, folder: Path | None = None) -> Evaluation | None:
    """What `evaluate` wrote for the cell, there or elsewhere; None if it is not whole, or of another training."""
    folder = folder or cell.report_folder
    try:
        scores = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        predictions = pd.read_csv(folder / "predictions.csv")
        corrupted = pd.read_csv(path) if (path := folder / "corrupted.csv").is_file() else pd.DataFrame()
        whole = len(predictions[["name", "label", "probability"]]) == cell.data.count("valid")
        ours = scores["cell"] == cell.fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Evaluation(scores, predictions, corrupted=corrupted) if whole and ours else None
