"""The record of the champion's moves: one MLflow run each, in an experiment of their own."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import mlflow
from mlflow.entities import Metric

from car_or_truck.cells import names
from car_or_truck.registry import versions
from car_or_truck.tracking import store

PROMOTED, ROLLED_BACK, BY_HAND = "promoted", "rolled back to", "moved by hand"
NOBODY = "none"
PROMOTION = "promotion"  # a version's tag: when it became champion, by whom and why; the record has the gates
ABOUT = (
    "Every move of the alias champion of {name}, one run each, by `car-or-truck promote` and `rollback`. A move by "
    "hand is added when one of them notices it. The metrics are the numbers of the gates."
)


@dataclass(frozen=True)
class Move:
    """A move of the champion."""

    action: str
    version: str  # the new champion; NOBODY: the alias was removed
    before: str  # the champion before, or NOBODY
    person: str
    reason: str = ""
    verdict: str = ""
    gates: str = ""  # a table in Markdown


@dataclass(frozen=True)
class RecordedMove(Move):
    """An entry of the record."""

    run_id: str = ""
    time: datetime = datetime.min
    status: str = ""  # MLflow's: RUNNING while it is under way, FAILED if nothing moved


def history(client: mlflow.MlflowClient, name: str) -> list[RecordedMove]:
    """Every move of a registered model's champion, the newest first."""
    experiment = client.get_experiment_by_name(names.promotions_name(name))
    if experiment is None:
        return []
    moves: list[RecordedMove] = []
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], page_token=token)
        moves += [read(run) for run in page]
        token = page.token
        if not token:
            return moves


def read(run: Any) -> RecordedMove:
    """The move that a run records."""
    facts = {field.name: run.data.tags.get(field.name, "") for field in fields(Move)}
    _, _, facts["gates"] = run.data.tags.get("mlflow.note.content", "").partition("\n\n")  # as `_describe` joins them
    when = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return RecordedMove(**facts, run_id=run.info.run_id, time=when, status=run.info.status)


def label(number: str) -> str:
    """A version in words."""
    return "none" if number == NOBODY else f"version {number}"


def record(client: mlflow.MlflowClient, name: str, move: Move, when: int | None = None) -> str:
    """Add a running entry to the record, of now or of another time (in milliseconds); returns its run id."""
    title = (
        f"{label(move.version)} {move.action}" if move.action == PROMOTED else f"{move.action} {label(move.version)}"
    )
    facts = asdict(move)
    tags = {
        "mlflow.runName": title,
        "mlflow.user": move.person,
        "mlflow.note.content": _describe(name, move, facts.pop("gates")),
        **facts,
    }
    when = when or round(1000 * time.time())
    run = client.create_run(_experiment(client, name), when, {key: value for key, value in tags.items() if value})
    rows = re.findall(r"^\| ([^|]+) \| ([-+.\de]+) \|", move.gates, re.MULTILINE)
    metrics = [
        Metric(re.sub(r"[^a-z0-9]+", "_", gate.replace("'s", "").lower()), float(value), when, 0)
        for gate, value in rows
    ]
    client.log_batch(run.info.run_id, metrics=metrics)
    return str(run.info.run_id)


def _describe(name: str, move: Move, gates: str) -> str:
    """A move in Markdown: the versions, who moved it and why, and the gates."""
    numbers = (move.version, move.before)
    after, before = (number if number == NOBODY else versions.link(name, number) for number in numbers)
    words = ": ".join(filter(None, [f"{move.action} by {move.person}", move.verdict, move.reason]))
    return "\n\n".join(filter(None, [f"Champion: {after}, {words}. Before: {before}.", gates]))


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    title = names.promotions_name(name)
    known = client.get_experiment_by_name(title)
    if known is not None:
        return str(known.experiment_id)
    about = {"mlflow.note.content": ABOUT.format(name=name), "mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(title, store.artifact_root(title, store.uri()), tags=about))
