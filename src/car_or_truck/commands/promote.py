"""`promote` and `rollback`: the challenger through the gates, on the same images as the champion."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress

import mlflow
import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from car_or_truck import paths
from car_or_truck.cells.cell import read_dataset
from car_or_truck.errors import Failure, summarize
from car_or_truck.params import Params, Promotion
from car_or_truck.prepare.images import png_base64
from car_or_truck.registry import champion as champions
from car_or_truck.registry import gates, loading, versions
from car_or_truck.registry.challenger import champion_answers
from car_or_truck.registry.gates import Decision, Gate
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, Version
from car_or_truck.tracking import permissions, provenance, runs, store
from car_or_truck.train import batches

PICTURES = 8  # files that the served model is asked about, one by one


def promote(params: Params, version_name: str | None, console: Console, dry_run: bool = False, force: str = "") -> None:
    """Make the named version (None: the challenger) the champion if every gate passes, or if forced."""
    with store.one_at_a_time("promotion"):
        client = versions.open_registry()
        version = None if version_name is None else versions.find(client, version_name)
        name = version.name if version else versions.model_name(client)
        if not dry_run:
            _settle(client, name, console)
        aliases = versions.aliases(client, name)
        champion = aliases.get(CHAMPION)
        version = version or aliases.get(CHALLENGER)
        if version is None:
            current = f" Its champion is {champion}." if champion else ""
            raise Failure(f"{name} has no challenger.{current} `car-or-truck promote NUMBER` judges any version.")
        versions.refuse_deleted(client, version)
        if champion and champion.number == version.number:
            words = f"{version} is already the champion of {name}."
            console.print(words[0].upper() + words[1:])
            return
        console.print(f"{name}: {version} against {champion or 'no champion yet'}")
        decision = judge(params.promotion, version, champion)
        console.print(gate_table(decision))
        chosen = versions.selection(client, version)
        if chosen and "test" not in read_dataset().counts:
            console.print(chosen)
        if not decision.passes and not force:
            raise Failure(
                f"{name}: {version} is not promoted. {decision.failures}.\n--force REASON promotes it anyway."
            )
        if dry_run:
            console.print(f"Dry run: version {version.number} would become the champion.")
            return
        with _refusals_explained(name):
            champions.promote(client, version, champion, decision, force)
        previous = f"; {champion} is the previous one" if champion else ""
        console.print(f"{name}: {version} is now the champion{previous}.")
        console.print("`car-or-truck predict photo.jpg` now asks it.")


def rollback(console: Console) -> None:
    """Make the previous champion the champion again."""
    with store.one_at_a_time("promotion"):
        client = versions.open_registry()
        name = versions.model_name(client)
        _settle(client, name, console)
        with _refusals_explained(name):
            champion, previous = champions.roll_back(client, name)
        swapped = f"; {previous} is the previous one" if previous else ""
        console.print(f"{name}: {champion} is the champion again{swapped}.")


def show_history(console: Console) -> None:
    """Print every move of the champion, the newest first."""
    with store.one_at_a_time("promotion"):
        client = versions.open_registry()
        name = versions.model_name(client)
        with suppress(Failure, mlflow.MlflowException):  # who may only read sees the record as it is
            _settle(client, name, console)
        moves = champions.history(client, name)
    if not moves:
        console.print(f"{name} has had no champion yet. `car-or-truck promote` makes one.")
        return
    grid = Table(title=f"Champions of {name}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("time (UTC)", "version", "what", "before", "by", "verdict"):
        grid.add_column(column, no_wrap=column in ("time (UTC)", "what"))
    for move in moves:
        status = {"FAILED": "did not happen", "RUNNING": "under way"}.get(move.status, move.verdict)
        verdict = f"{status}: {move.reason}" if move.reason else status
        grid.add_row(f"{move.time:%Y-%m-%d %H:%M}", move.version, move.action, move.before, move.person, verdict)
    console.print(grid)


def _settle(client: mlflow.MlflowClient, name: str, console: Console) -> None:
    """Bring the record up to date, and say what was amiss; a Failure for who may not move the champion."""
    with _refusals_explained(name):
        champions.check_permission(client, name)
        for line in champions.settle(client, name):
            console.print(line)


def _refusals_explained(name: str) -> AbstractContextManager[None]:
    return permissions.refusals_explained(f"move the champion of {name} on {store.uri()}")


def judge(limits: Promotion, version: Version, champion: Version | None) -> Decision:
    """All gates, on the images in data/prepared. Failure when the version was evaluated on others.

    Its accuracy, calibration and lead over the champion are judged on test where data.test_fraction sets
    that apart: validation has chosen it.
    """
    dataset = read_dataset()
    split = "test" if "test" in dataset.counts else "valid"
    record = provenance.read_evaluations(version.run_id)
    if record is None or not {"valid", split} <= record[1].keys():
        runs.refuse_lost(version.run_id)
        raise Failure(
            f"The evaluation of {version} is missing in its MLflow run. Run "
            "`dvc repro --force --single-item evaluate@VARIANT-SEED`."
        )
    cell, evaluations = record
    if any(cell.data.splits.get(name) != dataset.splits[name] for name in ("valid", split)):
        raise Failure(
            f"{version} was evaluated on other images (digest {cell.data.digest[:12]}) than data/prepared holds "
            f"({dataset.digest[:12]}). Check out its data, or train the variant on these."
        )
    theirs = champion_answers(champion, cell, dataset, split) if champion else None
    loading.start(cell.precision, cell.threads)
    valid = batches.load(paths.PREPARED, "valid")
    judged = gates.judge(evaluations[split], theirs, limits)
    served = _serving_gates(version, valid, evaluations["valid"].probability, limits, cell.batch_size)
    return Decision((*judged.gates, *served))


def _serving_gates(
    version: Version, valid: batches.Split, evaluated: gates.Floats, limits: Promotion, batch_size: int
) -> tuple[Gate, ...]:
    """The registered model takes pictures as its signature says, and predicts as it was evaluated."""
    pictures = valid.images[:PICTURES]
    try:
        model = loading.served(version)
        rows = model.predict(pd.DataFrame({"image": [png_base64(picture) for picture in pictures]}))
        same = int((np.abs(rows["probability"] - evaluated[:PICTURES]) <= limits.tolerance).sum())
        note = "files, as they are served"
        predicted = loading.predict_split(model.get_raw_model(), valid, batch_size)
    except Exception as error:  # whatever keeps a model from predicting keeps it from being champion
        same, note = 0, f"the model fails: {summarize(error, 200)}"
        predicted = np.full(len(evaluated), np.inf)
    return (
        Gate("pictures predicted as evaluated", same, ">=", len(pictures), note),
        gates.same_predictions(evaluated, predicted, limits),
    )


def gate_table(decision: Decision) -> Table:
    """The gates as a person reads them."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("gate", "value", "must be", "verdict", ""):
        grid.add_column(column, justify="right" if column == "value" else "left", no_wrap=column != "")
    for gate in decision.gates:
        name, value, limit, verdict, note = gate.row
        grid.add_row(name, value, limit, Text(verdict, "green" if gate.passes else "bold red"), note)
    return grid
