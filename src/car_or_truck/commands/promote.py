"""`promote` and `rollback`: the challenger through the gates, judged on the same images as the champion."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from car_or_truck import files, paths
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.registry import champion as promotions
from car_or_truck.registry import gates, loading
from car_or_truck.registry import versions as registry
from car_or_truck.registry.gates import Answers, Gate
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, Version
from car_or_truck.tracking import provenance as trace
from car_or_truck.tracking import store
from car_or_truck.train import batches

PICTURES = 8  # that the served model is asked about, one file each


def promote(params: Params, wanted: str | None, console: Console, dry_run: bool = False, force: str = "") -> None:
    """Make the wanted version (None: the challenger) the champion, if the gates hold; a Failure says which do not."""
    with store.one_at_a_time("promotion"):
        client = store.open_store()
        version = registry.find(client, wanted) if wanted else None
        name = version.name if version else registry.model_name(client)
        for line in [] if dry_run else promotions.settle(client, name):
            console.print(line)
        given = registry.aliases(client, name)
        champion = given.get(CHAMPION)
        version = version or given.get(CHALLENGER)
        if version is None:
            standing = f"{champion} is its champion. " if champion else ""
            raise Failure(f"{name} has no challenger. {standing}Name a version, such as `car-or-truck promote 1`.")
        if champion and champion.number == version.number:
            console.print(f"{version} is the champion of {name} already.".capitalize(), highlight=False)
            return
        console.print(f"{name}: {version} against {champion or 'nobody: there is no champion yet'}", highlight=False)
        verdict = judge(params, version, champion)
        console.print(table(verdict))
        failed = gates.failures(verdict)
        if failed and not force:
            raise Failure(f"{name}: {version} is not promoted. {failed}.\n--force REASON promotes it all the same.")
        if dry_run:
            console.print(f"A dry run: version {version.number} would become the champion.", highlight=False)
            return
        promotions.promote(client, version, champion, verdict, force)
        previous = f"; {champion} is the previous one" if champion else ""
        console.print(f"{name}: {version} is the champion now{previous}.", highlight=False)


def rollback(console: Console) -> None:
    """The previous champion is champion again."""
    with store.one_at_a_time("promotion"):
        client = store.open_store()
        name = registry.model_name(client)
        for line in promotions.settle(client, name):
            console.print(line)
        champion, previous = promotions.roll_back(client, name)
        console.print(f"{name}: {champion} is the champion again; {previous} is the previous one.", highlight=False)


def show_history(console: Console) -> None:
    """Print every move of the champion, the newest first."""
    with store.one_at_a_time("promotion"):
        client = store.open_store()
        name = registry.model_name(client)
        for line in promotions.settle(client, name):
            console.print(line)
        moves = promotions.history(client, name)
    if not moves:
        console.print(f"{name} has never had a champion. `car-or-truck promote` makes one.")
        return
    grid = Table(title=f"Champions of {name}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("time (UTC)", "version", "what", "before", "by", "verdict"):
        grid.add_column(column, no_wrap=column in ("time (UTC)", "what"))
    for move in moves:
        status = {"FAILED": "came to nothing", "RUNNING": "under way"}.get(move.status, move.verdict)
        verdict = f"{status}: {move.reason}" if move.reason else status
        when = f"{move.time:%Y-%m-%d %H:%M}"
        grid.add_row(when, move.version, move.action, move.before, move.person, verdict)
    console.print(grid)


def judge(params: Params, version: Version, champion: Version | None) -> tuple[Gate, ...]:
    """All the gates, on the images in data/prepared/valid. Failure when these are not the version's own."""
    dataset = files.read_json(paths.PREPARED / "dataset.json", "Run `dvc repro prepare`, or `dvc pull`.")
    known = trace.evaluated(version.run_id)
    if known is None:
        raise Failure(f"Nothing is kept of how {version} was evaluated. Run `dvc repro --force evaluate@VARIANT-SEED`.")
    cell, metrics, predictions = known
    if cell["data"]["arrays"]["valid"] != dataset["arrays"]["valid"]:
        raise Failure(
            f"{version} was evaluated on other images (digest {cell['data']['digest'][:12]}) than data/prepared holds "
            f"({dataset['digest'][:12]}). Check its data out, or train the variant on these."
        )
    loading.start(cell["precision"], cell["threads"])
    valid = batches.load(paths.PREPARED, "valid")
    evaluated = predictions["probability"].to_numpy()
    labels = predictions["label"].to_numpy()
    theirs = _champion(champion, dataset, valid, params.train.batch_size) if champion else None
    numbers = gates.judge(labels, Answers(evaluated, metrics["generalization_gap"]), theirs, params.promotion)
    return (*numbers, *_asked(version, valid, evaluated, params))


def _champion(champion: Version, dataset: dict[str, Any], valid: batches.Split, batch_size: int) -> Answers:
    """What the champion says of these images: as it was evaluated on them, else it is asked anew."""
    known = trace.evaluated(champion.run_id)
    if known and known[0]["data"]["arrays"]["valid"] == dataset["arrays"]["valid"]:
        return Answers(known[2]["probability"].to_numpy(), known[1]["generalization_gap"])
    classifier = loading.classifier(champion)
    if classifier.classes != dataset["classes"]:
        raise Failure(
            f"The champion, {champion}, tells {classifier.classes[0]} from {classifier.classes[1]}; the images in "
            f"data/prepared are of {' and '.join(dataset['classes'])}. Remove its alias champion to begin anew."
        )
    return Answers(_probability(classifier, valid, batch_size), float(champion.tags["generalization_gap"]))


def _asked(version: Version, valid: batches.Split, evaluated: gates.Floats, params: Params) -> tuple[Gate, ...]:
    """The registered model itself: it takes pictures as its signature says, and answers as it was evaluated."""
    pictures = valid.images[:PICTURES]
    try:
        model = loading.served(version)
        rows = model.predict(pd.DataFrame({"image": [_file(picture) for picture in pictures]}))
        answered = int((np.abs(rows["probability"] - evaluated[:PICTURES]) <= params.promotion.tolerance).sum())
        note = "files, asked as it is served"
        now = _probability(model.get_raw_model(), valid, params.train.batch_size)
    except Exception as error:  # whatever keeps a model from answering keeps it from being champion
        answered, note = 0, f"the model does not answer: {' '.join(str(error).split())[:200]}"
        now = np.full(len(evaluated), np.inf)
    return (
        Gate("pictures answered as evaluated", answered, ">=", len(pictures), note),
        gates.same_answers(evaluated, now, params.promotion),
    )


def _probability(classifier: Any, valid: batches.Split, batch_size: int) -> gates.Floats:
    """The Keras model's answers to prepared images, in the batches that `evaluate` asks in: the same to the bit."""
    from car_or_truck.train.scaling import resized

    images = valid.images
    for side in (classifier.image_size, classifier.side):
        images = images if images.shape[1] == side else resized(images, side)
    ordered = batches.in_order(batches.Split(images, valid.labels), batch_size)
    return np.asarray(classifier.net.predict(ordered, verbose=0)[:, 0], np.float64)


def _file(picture: Any) -> str:
    file = BytesIO()
    Image.fromarray(picture).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def table(verdict: tuple[Gate, ...]) -> Table:
    """The gates as a person reads them."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("gate", "value", "must be", "verdict", ""):
        grid.add_column(
            column, justify="right" if column == "value" else "left", no_wrap=column in ("value", "must be")
        )
    for gate in verdict:
        holds = "holds" if gate.holds else f"fails by {gate.short_by:.4g}" if gate.short_by else "fails"
        value = "" if gate.value is None else f"{gate.value:.4g}"
        grid.add_row(
            gate.name,
            value,
            f"{gate.must_be} {gate.limit:.4g}",
            "" if gate.value is None else holds,
            gate.note,
            style=None if gate.holds else "red",
        )
    return grid
