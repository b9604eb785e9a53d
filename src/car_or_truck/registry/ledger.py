"""What mlflow.db alone knows of the registered models, noted beside it, so that `sync` can rebuild one that was lost.

A JSON file each in .dvc/tmp/registry/NAME: versions by their numbers, and moves of the champion by their times, in
milliseconds. Of the project's own mlflow.db only. Nothing is ever removed, so that no number comes to mean two models.
"""

from __future__ import annotations

from pathlib import Path

from car_or_truck import files, paths
from car_or_truck.cells.cell import TrainedCell
from car_or_truck.tracking import store

VERSIONS, MOVES = "versions", "moves"


def note(where: str, name: str, kind: str, notes: dict[int, dict[str, str]]) -> None:
    """Note versions or moves of a registered model of the store `where`."""
    if where == store.default_store():
        for key, facts in notes.items():
            files.write_json(_folder(name, kind) / f"{key}.json", facts)


def read(where: str, name: str, kind: str) -> dict[int, dict[str, str]]:
    """What was noted, in order."""
    if where != store.default_store():
        return {}
    notes = _folder(name, kind).glob("[0-9]*.json")
    numbered = sorted((int(path.stem), path) for path in notes if path.stem.isdecimal())  # no .part of a killed write
    return {key: files.read_json(path, "Delete it.") for key, path in numbered}


def identity(cell: TrainedCell) -> dict[str, str]:
    """What is noted of a version: whose model it is."""
    sha256 = files.sha256(cell.model_folder / "model.keras")
    return {"cell": cell.fingerprint, "variant": cell.variant, "seed": str(cell.seed), "model.sha256": sha256}


def number(noted: dict[int, dict[str, str]], model: dict[str, str]) -> int | None:
    """The number that a model had last; None if it had none."""
    return max((key for key, facts in noted.items() if facts == model), default=None)


def _folder(name: str, kind: str) -> Path:
    return paths.scratch("registry") / name / kind
