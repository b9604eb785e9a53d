"""Where everything lies, relative to the project's root. dvc.yaml names the same places."""

from __future__ import annotations

import os
from pathlib import Path

from car_or_truck.errors import Failure

RAW = Path("data/raw")
SOURCE = RAW / "SOURCE.json"
PREPARED = Path("data/prepared")
DATASET = PREPARED / "dataset.json"
AUDIT = Path("reports/data")
MODELS = Path("models")
REPORTS = Path("reports")
CELLS = REPORTS / "cells"


def model_folder(variant: str, seed: int) -> Path:
    """Where `train` writes one cell: model.keras, history.csv, cell.json."""
    return MODELS / variant / str(seed)


def report_folder(variant: str, seed: int) -> Path:
    """Where `evaluate` writes one cell: metrics.json, evaluation.json, its tables, figures/."""
    return CELLS / variant / str(seed)


def root() -> Path:
    """The repository that the person stands in, also for experiments that DVC runs in a folder of their own."""
    if "DVC_ROOT" in os.environ:
        return Path(os.environ["DVC_ROOT"])
    folder = Path.cwd()
    return next((path for path in (folder, *folder.parents) if (path / "dvc.yaml").is_file()), folder)


def scratch(name: str) -> Path:
    """A folder that git and DVC ignore, made if need be: .dvc/tmp/NAME at the root."""
    folder = root() / ".dvc" / "tmp" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"Cannot make {folder}: {error.strerror or error}.") from None
    return folder
