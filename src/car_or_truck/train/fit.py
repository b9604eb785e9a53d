"""A convnet trained by its setup, resumable after each epoch, and saved to the byte."""

from __future__ import annotations

import json
import math
import re
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from car_or_truck.errors import Failure
from car_or_truck.train import batches
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.history import COLUMNS, METRICS, derive
from car_or_truck.train.recipe import Recipe, Setup


class Data(NamedTuple):
    """The images that a training sees."""

    train: batches.Split
    valid: batches.Split


def load_data(prepared: Path, side: int) -> Data:
    """Train and validation images at `side` pixels."""
    return Data(batches.load(prepared, "train", side), batches.load(prepared, "valid", side))


def fit(
    net: Any, setup: Setup, data: Data, saved: Checkpoint, callbacks: Sequence[Any] = ()
) -> tuple[pd.DataFrame, int]:
    """Train `net` in place, from where `saved` stands; the state is saved after each epoch.

    Returns the history and the epoch (from 1) whose weights the net has at the end. Raises Failure
    when the loss is no longer finite.
    """
    import keras

    from car_or_truck.train import convnet

    recipe, batch_size, state = setup.recipe, setup.batch_size, saved.state
    features, trained = convnet.parts(net, recipe)
    if features is not None:
        print("computing the features of the frozen base, once", flush=True)
        maps = (features.predict(batches.in_order(split, batch_size), verbose=0) for split in data)
        data = Data(*(batches.Split(each, split.labels) for each, split in zip(maps, data, strict=True)))
    steps = batches.steps(len(data.train), batch_size)
    convnet.compile_net(trained, recipe, steps)
    trained.optimizer.build(trained.trainable_variables)
    variables = [*trained.variables, *trained.optimizer.variables]
    for variable, value in zip(variables, state.variables, strict=bool(state.epoch)):
        variable.assign(value)

    seconds, cpu_seconds = time.monotonic(), time.process_time()

    def after_epoch(epoch: int, logs: dict[str, float]) -> None:
        nonlocal seconds, cpu_seconds
        if recipe.l2:  # Keras adds the penalty to val_loss too, which would no longer compare between variants
            logs["val_loss"] -= float(sum(trained.losses))
        _check_finite(epoch + 1, logs, recipe)
        state.rows.append({"epoch": epoch + 1, **{name: float(logs[name]) for name in METRICS}})
        if recipe.keep == "best" and derive(pd.DataFrame(state.rows))["best_epoch"] == epoch + 1:
            state.best_epoch, state.best_weights = epoch + 1, trained.get_weights()
        state.epoch, state.variables = epoch + 1, [np.array(variable) for variable in variables]
        state.times.append(time.time())
        state.images += len(data.train)
        state.seconds += time.monotonic() - seconds
        state.cpu_seconds += time.process_time() - cpu_seconds
        seconds, cpu_seconds = time.monotonic(), time.process_time()
        saved.write()
        trained.stop_training = _has_stopped(recipe, state.rows)

    first = state.epoch
    if first < recipe.epochs and not _has_stopped(recipe, state.rows):
        order = batches.training_order(len(data.train), recipe.epochs, recipe.shuffle, setup.seed)[first:]
        change = batches.training_change(recipe, data.train.labels, setup.seed, first * steps)
        trained.fit(
            batches.stream(data.train, order, batch_size, change),
            validation_data=batches.in_order(data.valid, batch_size),
            initial_epoch=first,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # `order` has shuffled already
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=after_epoch), *callbacks],
        )
    if state.best_epoch:
        trained.set_weights(state.best_weights)
    return pd.DataFrame(state.rows)[COLUMNS], state.best_epoch or state.epoch


def _check_finite(epoch: int, logs: dict[str, float], recipe: Recipe) -> None:
    if not all(math.isfinite(value) for value in logs.values()):
        raise Failure(
            f"Training diverged in epoch {epoch}: loss {logs['loss']}, val_loss {logs['val_loss']}. "
            f"Lower optimizer.learning_rate ({recipe.optimizer.learning_rate})."
        )


def _has_stopped(recipe: Recipe, rows: list[dict[str, float]]) -> bool:
    """Whether early stopping ends the training here; decided by the history alone, so that it survives a resume."""
    if recipe.early_stopping is None or not rows:
        return False
    monitor = recipe.early_stopping.monitor
    values = [row[monitor] if monitor == "val_loss" else -row[monitor] for row in rows]
    return len(values) - 1 - values.index(min(values)) >= recipe.early_stopping.patience


def save(net: Any, path: Path) -> None:
    """Save as .keras, the same bytes for the same net.

    Keras writes the time into it, in two places, and the memory addresses of shared objects.
    """
    net.save(path)
    with zipfile.ZipFile(path) as saved:
        entries = {info.filename: saved.read(info) for info in saved.infolist()}
    metadata = json.loads(entries["metadata.json"])
    entries["metadata.json"] = json.dumps({**metadata, "date_saved": "1980-01-01@00:00:00"}).encode()
    numbers: dict[bytes, int] = {}  # an address becomes the number of its first appearance
    entries["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda address: str(numbers.setdefault(address.group(), len(numbers) + 1)).encode(),
        entries["config.json"],
    )
    with zipfile.ZipFile(path, "w") as fixed:
        for name, content in sorted(entries.items()):
            fixed.writestr(zipfile.ZipInfo(name), content)
