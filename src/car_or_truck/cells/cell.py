"""A cell is one variant trained with one seed. Its fingerprint names all that decides its numbers."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from car_or_truck import files, paths
from car_or_truck.train.history import COLUMNS
from car_or_truck.train.recipe import Recipe

# The source files that decide a model's numbers; dvc.yaml's `train` depends on the same folder.
CODE = Path(__file__).parents[1] / "train"
LIBRARIES = ("keras", "numpy", "tensorflow")


def describe(
    variant: str, seed: int, recipe: Recipe, batch_size: int, precision: str, threads: int, dataset: dict[str, Any]
) -> dict[str, Any]:
    """What cell.json says of a cell before it is trained; "cell" is the fingerprint of the rest."""
    facts = {
        "variant": variant,
        "seed": seed,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "batch_size": batch_size,
        "precision": precision,
        "threads": threads,  # another number of them adds up in another order, and so rounds differently
        "data": {
            key: dataset[key] for key in ("source", "stand_in", "digest", "arrays", "image_size", "classes", "counts")
        },
        "code": files.content_digest((path.name, files.sha256(path)) for path in CODE.glob("*.py")),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return {"cell": fingerprint, **facts}


def is_trained(folder: Path, cell: dict[str, Any]) -> bool:
    """Whether `folder` holds what training this very cell gives."""
    try:
        found = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found.get("cell") == cell["cell"])


def find_trained(cell: dict[str, Any]) -> Path | None:
    """A folder of models/ that holds what training `cell` gives, whatever its variant's name; None: there is none."""
    for path in sorted(paths.MODELS.glob(f"*/{cell['seed']}/cell.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if all(found.get(key) == value for key, value in cell.items() if key not in ("cell", "variant")):
            return path.parent
    return None


def read(variant: str, seed: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """A trained cell's cell.json and history; a Failure when it has not been trained."""
    folder = paths.model_folder(variant, seed)
    remedy = f"Run `dvc repro train@{variant}-{seed}`."
    cell = files.read_json(folder / "cell.json", remedy)
    return cell, pd.read_csv(folder / "history.csv")[COLUMNS]
