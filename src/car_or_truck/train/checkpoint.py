"""A cell's training as it stood after its last finished epoch, so that a killed one goes on from there.

Checkpoints lie outside of DVC's outputs, which DVC removes before a stage runs. Each belongs to one
fingerprint, is written whole or not at all, and is removed when the cell is done.
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
    """What a training needs to go on: all its variables, its history, and the weights that it would keep."""

    epoch: int = 0  # the last one finished, from 1
    rows: list[dict[str, float]] = field(default_factory=list)  # the history so far
    times: list[float] = field(default_factory=list)  # when each of its epochs ended, in seconds since 1970
    seconds: float = 0.0  # that the epochs took, by the clock
    cpu_seconds: float = 0.0  # and by the processor
    images: int = 0  # that were trained on
    run_id: str | None = None  # the MLflow run
    variables: list[NDArray[Any]] = field(default_factory=list)  # the net's and the optimizer's, in their order
    initial: list[NDArray[Any]] = field(default_factory=list)  # weights to start from, until an epoch is finished
    best_epoch: int = 0  # 0: none kept
    best_weights: list[NDArray[Any]] = field(default_factory=list)


PLAIN = ("epoch", "rows", "times", "seconds", "cpu_seconds", "images", "run_id", "best_epoch")
ARRAYS = ("variables", "initial", "best_weights")


class Checkpoint:
    """The checkpoint file of one cell; held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State()
        self.waited = False  # for another process that trained the same cell

    def read(self) -> None:
        """Take up what was saved, if anything; a torn file is set aside."""
        if not self.path.exists():
            return
        try:
            with self.path.open("rb") as file, np.load(file) as saved:
                about = json.loads(bytes(saved["about"]).decode())
                arrays: dict[str, Any] = {
                    name: [saved[f"{name}{place}"] for place in range(about[name])] for name in ARRAYS
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            aside = self.path.with_suffix(".torn")
            self.path.replace(aside)
            print(f"The checkpoint {self.path} is torn ({error}); it is set aside as {aside.name}.", flush=True)
            return
        self.state = State(**{key: about[key] for key in PLAIN}, **arrays)

    def write(self) -> None:
        """Save the state, atomically."""
        state = self.state
        about = {key: getattr(state, key) for key in PLAIN} | {name: len(getattr(state, name)) for name in ARRAYS}
        arrays: dict[str, Any] = {
            f"{name}{place}": value for name in ARRAYS for place, value in enumerate(getattr(state, name))
        }
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)

    def remove(self) -> None:
        """The cell is done."""
        self.path.unlink(missing_ok=True)


@contextmanager
def held(fingerprint: str, name: str) -> Iterator[Checkpoint]:
    """The cell's checkpoint, once no other process trains the same cell; waits for it, and says so."""
    folder = paths.root() / ".dvc" / "tmp" / "training"
    folder.mkdir(parents=True, exist_ok=True)
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
