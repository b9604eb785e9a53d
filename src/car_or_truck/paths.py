"""Where everything lies, relative to the project's root. dvc.yaml names the same places."""

from __future__ import annotations

import os
from pathlib import Path

RAW = Path("data/raw")
SOURCE = RAW / "SOURCE.json"
PREPARED = Path("data/prepared")
AUDIT = Path("reports/data")
MODELS = Path("models")
REPORTS = Path("reports")
CELLS = REPORTS / "cells"


def model_folder(variant: str, seed: int) -> Path:
    """What `train` writes for one cell: model.keras, history.csv, cell.json."""
    return MODELS / variant / str(seed)


def report_folder(variant: str, seed: int) -> Path:
    """What `evaluate` writes for one cell: metrics.json, evaluation.json, predictions.csv, figures/."""
    return CELLS / variant / str(seed)


def root() -> Path:
    """The repository that the person stands in, also for experiments that DVC runs in a folder of their own."""
    if "DVC_ROOT" in os.environ:
        return Path(os.environ["DVC_ROOT"])
    here = Path.cwd()
    return next((path for path in (here, *here.parents) if (path / "dvc.yaml").is_file()), here)
