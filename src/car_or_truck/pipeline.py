"""The five stages as DVC calls them: the only place where a stage meets MLflow.

A stage's own function takes parameters and files and leaves files; MLflow is told of it here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console

from car_or_truck import files, paths
from car_or_truck.cells.cell import Cell, TrainedCell, read_dataset, read_trained, start_training
from car_or_truck.cells.remote import shared_checkpoint
from car_or_truck.cells.results import suits
from car_or_truck.cells.times import Pace, duration, write_pace
from car_or_truck.errors import Failure, summarize
from car_or_truck.params import Params, load
from car_or_truck.train import checks, runtime
from car_or_truck.train.checkpoint import Checkpoint, locked_checkpoint
from car_or_truck.train.recipe import Setup

MOST_SHOWN = 30  # models in train.variants x train.seeds, with which each evaluation shows all that there are


def fetch(params: Params) -> None:
    """Stage `fetch`."""
    from car_or_truck.fetch import stage

    stage.fetch(params.data)


def prepare(params: Params) -> None:
    """Stage `prepare`."""
    from car_or_truck.prepare import stage

    stage.prepare(params.data)


def train(params: Params, variant: str, seed: int) -> None:
    """Stage `train`: models/VARIANT/SEED, and an MLflow run that grows with the training."""
    cell, reason = _start(params, variant, seed)
    position = ""
    if (variant, seed) in params.cells:
        position = f" (model {params.cells.index((variant, seed)) + 1} of {len(params.cells)})"
    with locked_checkpoint(cell.fingerprint, cell.name) as saved, runtime.strategy().scope():
        if saved.waited and _is_trained(cell):
            print(f"{cell.name} was trained by that other process.", flush=True)
            return
        try:
            _train(cell, saved, shared_checkpoint(saved), reason, position)
        except KeyboardInterrupt:
            status = f"stopped after epoch {saved.state.epoch} of {cell.recipe.epochs}"
            print(f"\n{cell.name} {status}; `dvc repro` continues from there.")
            raise
        saved.remove()


def _start(params: Params, variant: str, seed: int) -> tuple[Cell, str]:
    """Check what can be checked, and start TensorFlow; returns the cell, and the reason for its precision."""
    precision = params.train.precision
    checks.check_versions(checks.pinned_versions())
    checks.check_weights(params.variants[variant].base)
    cell = start_training(params, variant, seed, read_dataset())
    return cell, "as params.yaml asks" if precision == cell.precision else runtime.automatic_precision()[1]


def _is_trained(cell: Cell) -> bool:
    try:
        return read_trained(cell.variant, cell.seed)[0].fingerprint == cell.fingerprint
    except Failure:
        return False


def _train(cell: Cell, saved: Checkpoint, send: Callable[[], None], reason: str, position: str) -> None:
    import keras

    from car_or_truck.tracking import training
    from car_or_truck.tracking.progress import Progress
    from car_or_truck.train import convnet, fit
    from car_or_truck.train.history import derive

    net = convnet.build(cell.recipe, cell.data.image_size)
    data = fit.load_data(paths.PREPARED, cell.side)
    print(
        f"{cell.name}{position}: {cell.recipe.epochs} epochs of {len(data.train):,} images\n"
        f"{net.count_params():,} parameters, {cell.threads} threads, {cell.precision} ({reason})",
        flush=True,
    )
    if saved.state.epoch:
        print(f"{cell.name} continues after epoch {saved.state.epoch}.", flush=True)
    with training.training_run(cell, saved, {"precision.reason": reason}) as callbacks:
        best = max((row["val_binary_accuracy"] for row in saved.state.rows), default=-1.0)
        callbacks.append(Progress(len(data.train), best))
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: send()))
        history, kept_epoch = fit.fit(net, cell, data, saved, callbacks)
        model = convnet.inference_copy(net)
        outcome = {"kept_epoch": kept_epoch, "parameters": int(model.count_params())}
        trained = TrainedCell.model_validate(cell.model_dump(by_alias=True) | outcome)
        _refuse_changes(cell)
        with files.whole_folder(cell.model_folder) as folder:
            fit.save(model, folder / "model.keras")
            files.write_csv(folder / "history.csv", history)
            files.write_json(folder / "cell.json", trained.model_dump(mode="json", by_alias=True))
        training.log_model(model, data.valid.images[0], trained)
    state = saved.state
    if state.seconds:
        write_pace(cell.fingerprint, Pace(state.seconds, state.cpu_seconds, state.images / state.seconds))
    reached = history["val_binary_accuracy"][kept_epoch - 1]
    gap = 100 * derive(history)["training_gap"]
    print(
        f"{cell.name}: {reached:.1%} on validation, training gap {gap:+.1f} points, {duration(state.seconds)}",
        flush=True,
    )


def _refuse_changes(cell: Cell) -> None:
    """Raise Failure if what decides the model changed while it trained: DVC would record it under what is there now."""
    setup = Setup.model_validate(cell.model_dump(include=set(Setup.model_fields)))
    if Cell.describe(cell.variant, setup, read_dataset()).fingerprint != cell.fingerprint or not suits(cell, load()):
        raise Failure(
            f"params.yaml, the code in train/ or data/prepared changed while {cell.name} trained, so it is not kept. "
            "Undo the change and run `dvc repro`, which goes on from the last epoch; or run it to train by the change."
        )


def evaluate(params: Params, variant: str, seed: int, console: Console) -> None:
    """Stage `evaluate`: reports/cells/VARIANT/SEED; the model's run gets its scores, and the model a version."""
    cell, history = read_trained(variant, seed)
    if cell.data.splits != read_dataset().splits:
        raise Failure(f"{cell.name} was trained on other images than data/prepared holds: run `dvc repro` for it.")
    runtime.start(seed, cell.precision, cell.threads)
    from car_or_truck.evaluate import stage
    from car_or_truck.tracking import runs, training

    run_id = runs.find_run(cell)
    if run_id:
        runs.refuse_lost(run_id)
    scores = stage.evaluate(cell, history, params.evaluate)
    accuracy, gap = scores["val_binary_accuracy"], 100 * scores["generalization_gap"]
    print(f"{cell.name}: {accuracy:.1%} on validation, generalization gap {gap:+.1f} points", flush=True)
    _record(run_id or training.rebuild(cell, history), cell, scores)
    if (variant, seed) in params.cells and len(params.cells) <= MOST_SHOWN:
        _show_progress(params, cell, scores, console)


def _record(run_id: str, cell: TrainedCell, scores: dict[str, Any]) -> None:
    """An evaluation into MLflow, here and on the server."""
    from car_or_truck.registry import versions
    from car_or_truck.tracking import delivery

    version = versions.record_evaluation(run_id, cell, scores)
    for changed in dict.fromkeys((version.run_id, run_id)):  # two of a cell that was trained again to the same bytes
        delivery.hand_over(changed)


def _show_progress(params: Params, cell: TrainedCell, scores: dict[str, Any], console: Console) -> None:
    """The leaderboard of the models that are evaluated, while others are not; `compare` prints that of all."""
    from car_or_truck.cells.results import read_results
    from car_or_truck.compare import comparison, leaderboard

    try:
        results, _ = read_results(params, read_dataset())
    except Failure:  # params.yaml was edited meanwhile
        return
    # Code that has changed since will train or evaluate the others again.
    current = [item for item in results if item.cell.code == cell.code and scores.keys() <= item.scores.keys()]
    if 0 < len(current) < len(params.cells):
        trained = {result.name: result.cell.fingerprint for result in current}
        leaderboard.show_progress(console, comparison.tabulate(current), trained, len(params.cells))


def compare(params: Params, console: Console) -> None:
    """Stage `compare`: reports/; MLflow gets a run that holds them, and the registry a challenger."""
    from car_or_truck.cells.results import read_results
    from car_or_truck.compare import leaderboard, stage

    dataset = read_dataset()
    results, missing = read_results(params, dataset)
    comparison = stage.compare(results, missing, dataset)
    places: list[str] = []
    try:
        from car_or_truck.tracking import runs, views
        from car_or_truck.tracking.comparison import log_comparison

        for run_id, result in runs.outdated(results):
            _record(run_id, result.cell, result.scores)
        if log_comparison(comparison):
            print("MLflow run comparison: FINISHED", flush=True)
        with suppress(Exception):  # a server that is down has no links; the run is in the file here
            places = views.places()
    except Exception as error:  # whatever it is, the comparison itself needs no store
        print(f"MLflow has no run of this comparison: {summarize(error, 200)}", file=sys.stderr)
    leaderboard.show(console)
    from car_or_truck.registry.challenger import name_challenger

    print(name_challenger(params.promotion, results, dataset), *places, sep="\n")
