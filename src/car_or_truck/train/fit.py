"""Stage `train`: one variant with one seed, from data/prepared to models/VARIANT/SEED.

What it writes is a function of the cell's fingerprint, to the byte: no time, no run id.
"""

from __future__ import annotations

import json
import math
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from car_or_truck import files, paths
from car_or_truck.cells import cell as cells
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.train import batches, checkpoint, runtime
from car_or_truck.train.history import COLUMNS, METRICS, derive
from car_or_truck.train.recipe import Recipe


def train(params: Params, variant: str, seed: int) -> Path:
    """Train the cell and write model.keras, history.csv and cell.json; returns their folder."""
    dataset = files.read_json(paths.PREPARED / "dataset.json", "Run `dvc repro prepare`.")
    recipe, batch_size = params.variants[variant], params.train.batch_size
    threads = params.train.threads or runtime.available_threads()
    precision = runtime.start(seed, params.train.precision, threads)
    why = "as params.yaml asks" if params.train.precision == precision else runtime.automatic_precision()[1]
    cell = cells.describe(variant, seed, recipe, batch_size, precision, threads, dataset)

    from car_or_truck.tracking import training as tracking  # after the engine has started TensorFlow quietly
    from car_or_truck.tracking.progress import progress
    from car_or_truck.train import convnet

    folder, name = paths.model_folder(variant, seed), f"{variant}-{seed}"
    with checkpoint.held(cell["cell"], name) as saved, runtime.strategy().scope():
        if saved.waited and cells.is_trained(folder, cell):
            print(f"{name} was trained by that other process.", flush=True)
            return folder
        net = convnet.build(recipe, dataset["image_size"])
        if recipe.initial_from is not None and not saved.state.epoch:
            net = start_from_another(recipe.initial_from, net, cell, dataset, saved)
        splits = load(recipe, dataset)
        place = params.cells.index((variant, seed)) + 1 if (variant, seed) in params.cells else 0
        print(
            f"{name}{f' (cell {place} of {len(params.cells)})' if place else ''}: {recipe.epochs} epochs of "
            f"{len(splits[0]):,} images, {net.count_params():,} parameters, {precision} ({why}), "
            f"{threads} threads",
            flush=True,
        )
        try:
            with tracking.training(cell, saved, {"precision.reason": why}) as callbacks:
                callbacks.append(progress(name, len(splits[0])))
                history, kept_epoch = fit(net, recipe, *splits, batch_size, seed, callbacks, saved)
                kept = convnet.for_use(net)
                about = {**cell, "kept_epoch": kept_epoch, "parameters": kept.count_params()}
                with files.whole_folder(folder) as part:
                    save(kept, part / "model.keras")
                    history.to_csv(part / "history.csv", index=False, lineterminator="\n")
                    files.write_json(part / "cell.json", about)
                tracking.log_net(kept, splits[1].images[:1], about)
        except KeyboardInterrupt:
            print(
                f"\n{name} stopped after epoch {saved.state.epoch} of {recipe.epochs}; `dvc repro` goes on from there."
            )
            raise
        saved.remove()
    return folder


def load(recipe: Recipe, dataset: dict[str, Any]) -> tuple[batches.Split, batches.Split]:
    """Train and valid at the size that the recipe wants."""
    side = recipe.side(dataset["image_size"])
    return batches.load(paths.PREPARED, "train", side), batches.load(paths.PREPARED, "valid", side)


def start_from_another(
    recipe: Recipe, net: Any, cell: dict[str, Any], dataset: dict[str, Any], saved: checkpoint.Checkpoint
) -> Any:
    """The cell's `net`, with the weights that `recipe` ends with; `saved` holds them until the first epoch is done.

    They are a trained cell's where models/ has one of just this recipe, seed and data; else it is
    trained here, which gives the same. Raises Failure when its weights do not fit the net.
    """
    import keras

    from car_or_truck.tracking.progress import progress
    from car_or_truck.train import convnet

    name, seed = cell["variant"], cell["seed"]
    shared = batch_size, precision, threads = cell["batch_size"], cell["precision"], cell["threads"]
    if not saved.state.initial:
        runtime.start(seed, precision, threads)  # from here on as in a process that trains this recipe alone
        first = convnet.build(recipe, dataset["image_size"])
        given, wanted = ([tuple(weight.shape) for weight in one.get_weights()] for one in (first, net))
        if given != wanted:
            raise Failure(f"variants.{name}.initial_from does not fit: it has weights {given}, {name} has {wanted}.")
        start = cells.describe(f"{name}.initial_from", seed, recipe, *shared, dataset)
        trained = cells.find_trained(start)
        if trained is not None:
            print(f"{name} starts from the weights in {trained}.", flush=True)
            first = keras.saving.load_model(trained / "model.keras")
        else:
            print(f"No cell is trained as variants.{name}.initial_from yet; this comes first.", flush=True)
        with checkpoint.held(start["cell"], start["variant"]) as before:
            if trained is None:
                if recipe.initial_from is not None and not before.state.epoch:
                    first = start_from_another(recipe.initial_from, first, start, dataset, before)
                train_split, valid = load(recipe, dataset)
                callbacks = [progress(start["variant"], len(train_split))]
                fit(first, recipe, train_split, valid, batch_size, seed, callbacks, before)
            saved.state.initial = first.get_weights()
            saved.write()
            before.remove()
        runtime.start(seed, precision, threads)
        net = convnet.build(Recipe.model_validate(cell["recipe"]), dataset["image_size"])
    net.set_weights(saved.state.initial)
    return net


def fit(
    net: Any,
    recipe: Recipe,
    train: batches.Split,
    valid: batches.Split,
    batch_size: int,
    seed: int,
    callbacks: list[Any],
    saved: checkpoint.Checkpoint,
) -> tuple[pd.DataFrame, int]:
    """Train `net` in place, from where `saved` stands; the state is saved after each epoch.

    Returns the history and the epoch (from 1) whose weights the net has at the end. Raises Failure
    when the loss is no longer a number.
    """
    import keras

    from car_or_truck.train import convnet

    features, trained = convnet.parts(net, recipe)
    if features is not None:
        print("computing the features of the frozen base, once", flush=True)
        train, valid = (
            batches.Split(features.predict(batches.in_order(split, batch_size), verbose=0), split.labels)
            for split in (train, valid)
        )
    steps = batches.steps(len(train), batch_size)
    convnet.compile_net(trained, recipe, steps)
    trained.optimizer.build(trained.trainable_variables)
    variables, state = [*trained.variables, *trained.optimizer.variables], saved.state
    for variable, value in zip(variables, state.variables, strict=bool(state.epoch)):
        variable.assign(value)

    seconds, cpu_seconds = time.monotonic(), time.process_time()

    def after_epoch(epoch: int, logs: dict[str, float]) -> None:
        nonlocal seconds, cpu_seconds
        if recipe.l2:  # Keras adds the penalty to val_loss too, which would no longer compare between variants
            logs["val_loss"] -= float(sum(trained.losses))
        if not all(math.isfinite(value) for value in logs.values()):
            raise Failure(
                f"Training went wrong in epoch {epoch + 1}: its loss is {logs['loss']}, val_loss {logs['val_loss']}. "
                f"Likely causes: optimizer.learning_rate ({recipe.optimizer.learning_rate}) is too high, or "
                f"optimizer.epsilon is too small."
            )
        state.rows.append({"epoch": epoch + 1, **{name: float(logs[name]) for name in METRICS}})
        if recipe.keep == "best" and derive(pd.DataFrame(state.rows))["best_epoch"] == epoch + 1:
            state.best_epoch, state.best_weights = epoch + 1, trained.get_weights()
        state.epoch, state.initial, state.variables = epoch + 1, [], [np.array(variable) for variable in variables]
        state.times.append(time.time())
        state.images += len(train)
        state.seconds += time.monotonic() - seconds
        state.cpu_seconds += time.process_time() - cpu_seconds
        seconds, cpu_seconds = time.monotonic(), time.process_time()
        saved.write()
        trained.stop_training = _has_stopped(recipe, state.rows)

    first = state.epoch
    if first < recipe.epochs and not _has_stopped(recipe, state.rows):
        order = batches.training_order(len(train), recipe.epochs, recipe.shuffle, seed)[first:]
        change = batches.training_change(recipe, train.labels, seed, first * steps)
        trained.fit(
            batches.stream(train, order, batch_size, change),
            validation_data=batches.in_order(valid, batch_size),
            initial_epoch=first,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # by Keras; `order` has shuffled them
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=after_epoch), *callbacks],
        )
    if state.best_epoch:
        trained.set_weights(state.best_weights)
    return pd.DataFrame(state.rows)[COLUMNS], state.best_epoch or state.epoch


def _has_stopped(recipe: Recipe, rows: list[dict[str, float]]) -> bool:
    """Whether early stopping ends the training here; from the history alone, so that it is the same when resumed."""
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
        lambda found: str(numbers.setdefault(found.group(), len(numbers) + 1)).encode(),
        entries["config.json"],
    )
    with zipfile.ZipFile(path, "w") as fixed:
        for name, content in sorted(entries.items()):
            fixed.writestr(zipfile.ZipInfo(name), content)
