"""Stage `train`: one variant with one seed, from data/prepared to models/VARIANT/SEED.

What it writes is a function of the cell's fingerprint, to the byte: no time, no run id.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd

from car_or_truck import batches, cells, engine, files, layout
from car_or_truck.errors import Failure
from car_or_truck.history import COLUMNS
from car_or_truck.params import Params
from car_or_truck.recipe import Recipe


def train(params: Params, variant: str, seed: int) -> Path:
    """Train the cell and write model.keras, history.csv and cell.json; returns their folder."""
    dataset = files.read_json(layout.PREPARED / "dataset.json", "Run `dvc repro prepare`.")
    recipe, batch_size = params.variants[variant], params.train.batch_size
    precision = engine.start(seed, params.train.precision)
    side = recipe.side(dataset["image_size"])
    splits = {split: batches.load(layout.PREPARED, split, side) for split in ("train", "valid")}
    cell = cells.describe(variant, seed, recipe, batch_size, precision, dataset)

    from car_or_truck import convnet, tracking  # after the engine has started TensorFlow quietly

    net = convnet.build(recipe, dataset["image_size"])
    with tracking.training(cell) as callbacks:
        history, kept_epoch = fit(net, recipe, splits["train"], splits["valid"], batch_size, seed, callbacks)
        folder = layout.model_folder(variant, seed)
        with files.whole_folder(folder) as part:
            kept = convnet.for_use(net)
            save(kept, part / "model.keras")
            history.to_csv(part / "history.csv", index=False, lineterminator="\n")
            files.write_json(part / "cell.json", {**cell, "kept_epoch": kept_epoch, "parameters": kept.count_params()})
        tracking.log_net(kept, splits["valid"].images[:1])
    return folder


def fit(
    net: Any,
    recipe: Recipe,
    train: batches.Split,
    valid: batches.Split,
    batch_size: int,
    seed: int,
    callbacks: list[Any],
) -> tuple[pd.DataFrame, int]:
    """Train `net` in place; returns its history and the epoch (from 1) whose weights it has at the end.

    Raises Failure when the loss is no longer a number.
    """
    import keras

    from car_or_truck import convnet

    features, trained = convnet.parts(net, recipe)
    if features is not None:
        print("computing the features of the frozen base, once", flush=True)
        train, valid = (
            batches.Split(features.predict(batches.in_order(split, batch_size), verbose=0), split.labels)
            for split in (train, valid)
        )
    steps = batches.steps(len(train), batch_size)
    convnet.compile_net(trained, recipe, steps)
    order = batches.training_order(len(train), recipe.epochs, recipe.shuffle, seed)
    best: dict[str, Any] = {"accuracy": -1.0}

    def after_epoch(epoch: int, logs: dict[str, float]) -> None:
        if recipe.l2:  # Keras adds the penalty to val_loss too, which would no longer compare between variants
            logs["val_loss"] -= float(sum(trained.losses))
        if not all(math.isfinite(value) for value in logs.values()):
            raise Failure(
                f"Training went wrong in epoch {epoch + 1}: its loss is {logs['loss']}, val_loss {logs['val_loss']}. "
                f"Likely causes: optimizer.learning_rate ({recipe.optimizer.learning_rate}) is too high, or "
                f"optimizer.epsilon is too small."
            )
        if recipe.keep == "best" and logs["val_binary_accuracy"] > best["accuracy"]:
            best.update(accuracy=logs["val_binary_accuracy"], epoch=epoch + 1, weights=trained.get_weights())

    watchers: list[Any] = [keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)]
    if recipe.early_stopping is not None:
        watchers.append(keras.callbacks.EarlyStopping(**recipe.early_stopping.model_dump()))
    history = trained.fit(
        batches.stream(train, order, batch_size, batches.training_change(recipe, train.labels, seed)),
        validation_data=batches.in_order(valid, batch_size),
        epochs=recipe.epochs,
        steps_per_epoch=steps,
        shuffle=False,  # by Keras; `order` has shuffled them
        verbose=0,
        callbacks=[*watchers, *callbacks],
    )
    if "weights" in best:
        trained.set_weights(best["weights"])
    table = pd.DataFrame(history.history)
    table.insert(0, "epoch", range(1, len(table) + 1))
    return table[COLUMNS], best.get("epoch", len(table))


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
        lambda found: str(numbers.setdefault(found.group(), len(numbers) + 1)).encode(),
        entries["config.json"],
    )
    with zipfile.ZipFile(path, "w") as fixed:
        for name, content in sorted(entries.items()):
            fixed.writestr(zipfile.ZipInfo(name), content)
