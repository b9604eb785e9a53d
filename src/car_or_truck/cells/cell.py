"""A cell is a variant trained with one seed. Its fingerprint names all that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd
from pydantic import Field

from car_or_truck import files, paths
from car_or_truck.errors import Failure
from car_or_truck.train import checks, runtime
from car_or_truck.train.history import COLUMNS
from car_or_truck.train.recipe import Setup, Strict

if TYPE_CHECKING:
    from car_or_truck.params import Params

CODE = Path(checks.__file__).parent  # what dvc.yaml's `train` depends on


class Images(Strict):
    """The prepared images that a cell is trained and evaluated on."""

    source: str
    stand_in: bool  # whether they are synthetic
    digest: str  # of the files' names and contents
    arrays: dict[str, str]  # SHA-256 of each split's pixels
    image_size: int  # pixels a side
    classes: tuple[str, str]  # the second is the one that probabilities are of
    counts: dict[str, dict[str, int]]  # images by split and class

    def count(self, split: str) -> int:
        """The number of images in a split."""
        return sum(self.counts[split].values())

    @property
    def splits(self) -> dict[str, tuple[str, list[int]]]:
        """What tells a split's images and labels: its digest, and how many each class has, one after the other."""
        return {split: (digest, [*self.counts[split].values()]) for split, digest in self.arrays.items()}

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent class of the validation set and its share: the best constant answer."""
        name, count = max(self.counts["valid"].items(), key=lambda item: item[1])
        return name, count / self.count("valid")


class Dataset(Images):
    """data/prepared/dataset.json."""

    raw_digest: str  # of all fetched files, dropped and undecodable ones included


class Cell(Setup):
    """All that decides a model's numbers, and the fingerprint of it."""

    fingerprint: str = Field(alias="cell")  # SHA-256 of all the rest
    variant: str
    data: Images
    code: str  # digest of train/*.py
    versions: dict[str, str]  # of the libraries that decide numbers

    @classmethod
    def describe(cls, variant: str, setup: Setup, dataset: Dataset) -> Self:
        """The cell of a training that is about to start."""
        facts = {
            "variant": variant,
            **setup.model_dump(mode="json"),  # null is a value: base.weights defaults to imagenet
            "data": dataset.model_dump(mode="json", exclude={"raw_digest"}),
            "code": files.content_digest((path.name, files.sha256(path)) for path in CODE.glob("*.py")),
            "versions": {name: version(name) for name in checks.pinned_versions()},
        }
        text = json.dumps(facts, sort_keys=True)
        return cls.model_validate_json(json.dumps({**facts, "cell": hashlib.sha256(text.encode()).hexdigest()}))

    @property
    def name(self) -> str:
        """VARIANT-SEED, as DVC names its stages."""
        return cell_name(self.variant, self.seed)

    @property
    def stand_in(self) -> bool:
        """Whether it is trained on synthetic images."""
        return self.data.stand_in

    @property
    def side(self) -> int:
        """Pixels a side of the model's input."""
        return self.recipe.side(self.data.image_size)

    @property
    def model_folder(self) -> Path:
        """Where `train` writes it."""
        return paths.model_folder(self.variant, self.seed)

    @property
    def report_folder(self) -> Path:
        """Where `evaluate` writes it."""
        return paths.report_folder(self.variant, self.seed)


class TrainedCell(Cell):
    """models/VARIANT/SEED/cell.json."""

    kept_epoch: int  # from 1: the epoch whose weights were saved
    parameters: int


def start_training(params: Params, variant: str, seed: int, dataset: Dataset) -> Cell:
    """Start TensorFlow for a training, and describe it."""
    threads = params.train.threads or runtime.available_threads()
    facts = {
        "recipe": params.variants[variant],
        "seed": seed,
        "batch_size": params.train.batch_size,
        "precision": runtime.start(seed, params.train.precision, threads),
        "threads": threads,
    }
    return Cell.describe(variant, Setup.model_validate(facts), dataset)


def cell_name(variant: str, seed: int) -> str:
    """VARIANT-SEED, as DVC names a cell's stages."""
    return f"{variant}-{seed}"


def read_dataset(root: Path = Path()) -> Dataset:
    """What data/prepared below `root` holds; a Failure when it is not prepared."""
    return files.read_model(root / paths.DATASET, Dataset, "Run `dvc repro prepare`, or `dvc pull`.")


def read_trained(variant: str, seed: int, folder: Path | None = None) -> tuple[TrainedCell, pd.DataFrame]:
    """A trained cell and its history, from models/VARIANT/SEED; a Failure when it has not been trained.

    `folder` is another one that holds them.
    """
    name = cell_name(variant, seed)
    remedy = f"Restore {folder}, for instance with git." if folder else f"Run `dvc repro train@{name}`."
    folder = folder or paths.model_folder(variant, seed)
    cell = files.read_model(folder / "cell.json", TrainedCell, remedy)
    if cell.name != name:
        raise Failure(f"{folder} holds {cell.name}, not {name}. {remedy}")
    try:
        return cell, pd.read_csv(folder / "history.csv")[COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"{folder / 'history.csv'} cannot be read ({files.cause(error)}). {remedy}") from None
