"""A training's state after its last finished epoch, so that a killed training goes on from there.

Checkpoints lie outside DVC's outputs, which DVC removes before a stage runs. Each belongs to one
fingerprint, is written whole or not at all, and is removed when the training is done.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from car_or_truck import paths


@dataclass
class State:
    """What a training needs to go on: its variables, its history, and the weights that it would keep."""

    epoch: int = 0  # the last finished one, from 1
    rows: list[dict[str, float]] = field(default_factory=list)  # the history so far
    times: list[float] = field(default_factory=list)  # when each epoch ended, in seconds since 1970
    seconds: float = 0.0  # wall time of the epochs
    cpu_seconds: float = 0.0  # and processor time
    images: int = 0  # trained on, over all epochs
    run_id: str | None = None  # MLflow's
    best_epoch: int = 0  # 0: none is kept
    variables: list[NDArray[Any]] = field(default_factory=list)  # the model's and the optimizer's, in their order
    best_weights: list[NDArray[Any]] = field(default_factory=list)


ARRAYS = ("variables", "best_weights")  # the fields that are saved as arrays; the others are saved as JSON


class Checkpoint:
    """The checkpoint file of one cell; held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State()
        self.waited = False  # for another process that trained the same cell

    def read(self) -> None:
        """Load the saved state, if there is one; a damaged file is set aside."""
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file, np.load(file) as saved:
                fields = json.loads(bytes(saved["fields"]).decode())
                for name in ARRAYS:
                    fields[name] = [saved[f"{name}{place}"] for place in range(fields[name])]
            self.state = State(**fields)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            aside = self.path.with_suffix(".damaged")
            self.path.replace(aside)
            print(f"The checkpoint {self.path} is damaged ({error}); it was set aside as {aside.name}.", flush=True)

    def write(self) -> None:
        """Save the state, whole or not at all."""
        fields = dict(vars(self.state))
        arrays: dict[str, Any] = {
            f"{name}{place}": value for name in ARRAYS for place, value in enumerate(fields[name])
        }
        fields |= {name: len(fields[name]) for name in ARRAYS}
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, fields=np.frombuffer(json.dumps(fields).encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)

    def remove(self) -> None:
        """Remove the file: the training is done."""
        self.path.unlink(missing_ok=True)


@contextmanager
def locked_checkpoint(fingerprint: str, name: str) -> Iterator[Checkpoint]:
    """The cell's checkpoint, locked against other processes; waits for one that trains the same cell."""
    folder = paths.scratch("training")
    lock, checkpoint = FileLock(folder / f"{fingerprint}.lock"), Checkpoint(folder / f"{fingerprint}.npz")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        checkpoint.waited = True
        print(f"{name} is being trained by another process; waiting for it to end.", flush=True)
        lock.acquire()
    try:
        checkpoint.read()
        yield checkpoint
    finally:
        lock.release()
