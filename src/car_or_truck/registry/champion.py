"""The moves of the alias champion, and their record: an experiment of its own, with one run a move.

A move's run is created with all its tags before the first alias moves, and finished after the last one
has. So the next command recognises and completes a move that was interrupted, and no entry of the
record is ever overwritten.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import mlflow
from mlflow.entities import Metric

from car_or_truck.cells import names
from car_or_truck.errors import Failure
from car_or_truck.git import person
from car_or_truck.registry import ledger, versions
from car_or_truck.registry.gates import Decision
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version
from car_or_truck.tracking import runs, store

PROMOTED, ROLLED_BACK, BY_HAND = "promoted", "rolled back to", "moved by hand"
NOBODY = "none"
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
    gates: str = ""  # as JSON


@dataclass(frozen=True, kw_only=True)
class RecordedMove(Move):
    """An entry of the record."""

    run_id: str
    time: datetime
    status: str  # MLflow's: RUNNING while it is under way, FAILED if nothing moved


def history(client: mlflow.MlflowClient, name: str) -> list[RecordedMove]:
    """Every move of a registered model's champion, the newest first."""
    experiment = client.get_experiment_by_name(names.promotions_name(name))
    if experiment is None:
        return []
    store.refuse_trashed(experiment, store.uri())
    order, ids = ["attributes.start_time DESC"], [experiment.experiment_id]
    return [*map(_read, runs.pages(lambda token: client.search_runs(ids, order_by=order, page_token=token)))]


def _read(run: Any) -> RecordedMove:
    tags = {field.name: run.data.tags.get(field.name, "") for field in fields(Move)}
    when = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return RecordedMove(**tags, run_id=run.info.run_id, time=when, status=run.info.status)


def check_permission(client: mlflow.MlflowClient, name: str) -> None:
    """Make the server refuse who may not move the champion, before anything is judged or recorded.

    MLflow cannot be asked. Writing the description back takes the permission that moving an alias takes.
    """
    client.update_registered_model(name, client.get_registered_model(name).description or "")


def settle(client: mlflow.MlflowClient, name: str) -> list[str]:
    """Bring record and aliases into agreement; returns a line for each thing that was amiss.

    An interrupted move is completed if the champion had moved already, else marked as failed. A move
    made by hand is added.
    """
    lines = []
    moves, aliases = history(client, name), versions.aliases(client, name)
    number = _number(aliases.get(CHAMPION))
    for move in moves:
        if move.status == "RUNNING" and move is moves[0] and move.version == number:
            _complete(client, name, move)
            lines.append(f"The move of {move.time:%Y-%m-%d %H:%M} UTC was interrupted; it is complete now.")
        elif move.status == "RUNNING":
            client.set_terminated(move.run_id, "FAILED")
            lines.append(f"The move of {move.time:%Y-%m-%d %H:%M} UTC to {_label(move.version)} had not happened.")
    last = next((move.version for move in history(client, name) if move.status == "FINISHED"), NOBODY)
    if last != number:
        run_id = _record(client, name, Move(BY_HAND, number, last, "unknown"))
        if last != NOBODY and versions.exists(client, name, last):
            client.set_registered_model_alias(name, PREVIOUS, last)
        client.set_terminated(run_id, "FINISHED")
        lines.append(f"The champion was moved by hand, from {_label(last)} to {_label(number)}; this is recorded now.")
    _note_moves(client, name)
    return lines


def restore(client: mlflow.MlflowClient, name: str, emptied: bool = False) -> int:
    """Bring back the moves that the ledger has and the record lacks, with their aliases and tags; returns how many.

    Also the aliases of a registered model that was `emptied`. An alias that is there stays where it is.
    """
    _note_moves(client, name)
    noted = ledger.read(client.tracking_uri, name, ledger.MOVES)
    moves = {_milliseconds(move): move for move in history(client, name)}
    # One that is noted and still under way was left so by a `restore` that was interrupted.
    lost = [when for when in noted if when not in moves or moves[when].status == "RUNNING"]
    last: dict[str, str] = {}
    for facts in noted.values():
        last[CHAMPION] = facts["version"]
        last[PREVIOUS] = facts["before"] if facts["before"] != NOBODY else last.get(PREVIOUS, NOBODY)
    present = versions.aliases(client, name)
    # First, so that after a kill they are not taken for done.
    for alias, number in last.items() if emptied or (lost and max(noted) in lost) else ():
        if alias not in present and versions.exists(client, name, number):
            client.set_registered_model_alias(name, alias, number)
    for when in lost:
        move = moves.get(when) or _read(client.get_run(_record(client, name, Move(**noted[when]), when)))
        if move.action != BY_HAND and versions.exists(client, name, move.version):
            _describe(client, name, move)
        client.set_terminated(move.run_id, "FINISHED", when)
    return len(lost)


def _note_moves(client: mlflow.MlflowClient, name: str) -> None:
    """Note the record in the ledger."""
    finished = [move for move in history(client, name) if move.status == "FINISHED"]
    facts = {_milliseconds(move): {item.name: getattr(move, item.name) for item in fields(Move)} for move in finished}
    ledger.note(client.tracking_uri, name, ledger.MOVES, facts)


def _milliseconds(move: RecordedMove) -> int:
    return round(1000 * move.time.timestamp())


def promote(
    client: mlflow.MlflowClient, version: Version, champion: Version | None, decision: Decision, reason: str
) -> None:
    """Make `version` the champion, and `champion` the previous one. Failure when someone else was quicker."""
    verdict = "all gates pass" if decision.passes else "forced past the gates"
    _move_champion(
        client,
        version,
        Move(PROMOTED, str(version.number), _number(champion), person(), reason, verdict, decision.record),
    )


def roll_back(client: mlflow.MlflowClient, name: str) -> tuple[Version, Version | None]:
    """Swap champion and previous; returns (champion, previous). Without a champion, the previous one is it again."""
    aliases = versions.aliases(client, name)
    if PREVIOUS not in aliases:
        raise Failure(f"Nothing to roll back to: {name} has no previous champion.")
    champion, previous = aliases[PREVIOUS], aliases.get(CHAMPION)  # None: a person removed it
    if previous and champion.number == previous.number:
        raise Failure(f"Nothing to roll back to: {champion} of {name} is the previous champion, too.")
    versions.refuse_deleted(client, champion)
    _move_champion(client, champion, Move(ROLLED_BACK, str(champion.number), _number(previous), person()))
    return champion, previous


def _number(version: Version | None) -> str:
    return str(version.number) if version else NOBODY


def _label(number: str) -> str:
    return "none" if number == NOBODY else f"version {number}"


def _move_champion(client: mlflow.MlflowClient, version: Version, move: Move) -> None:
    _check_champion(client, version.name, move.before, " The same command judges anew.")
    run_id = _record(client, version.name, move)
    client.set_registered_model_alias(version.name, CHAMPION, move.version)
    _complete(client, version.name, _read(client.get_run(run_id)))
    _check_champion(client, version.name, move.version)
    _note_moves(client, version.name)


def _check_champion(client: mlflow.MlflowClient, name: str, number: str, remedy: str = "") -> None:
    """Raise Failure when the champion is not the version with this number."""
    champion = versions.aliases(client, name).get(CHAMPION)
    if _number(champion) != number:
        change = f"made {champion} the champion of {name}" if champion else f"removed the champion of {name}"
        raise Failure(f"Someone else {change} meanwhile; that stands.{remedy}")


def _complete(client: mlflow.MlflowClient, name: str, move: RecordedMove) -> None:
    """The steps after the champion has moved; any of them may be done already."""
    if move.before != NOBODY and versions.exists(client, name, move.before):
        client.set_registered_model_alias(name, PREVIOUS, move.before)
    challenger = versions.aliases(client, name).get(CHALLENGER)
    if challenger and str(challenger.number) == move.version:
        versions.remove_challenger(client, name)
    if move.action != BY_HAND:
        _describe(client, name, move)
    client.set_terminated(move.run_id, "FINISHED")


def _describe(client: mlflow.MlflowClient, name: str, move: RecordedMove) -> None:
    """Say on the new champion, in a tag, how it became that; the record has the gates."""
    words = [f"{move.action} {move.time:%Y-%m-%dT%H:%M:%SZ} by {move.person}", move.verdict, move.reason]
    client.set_model_version_tag(name, move.version, "promotion", ": ".join(filter(None, words)))


def _record(client: mlflow.MlflowClient, name: str, move: Move, when: int | None = None) -> str:
    """Add a running entry to the record, of now or of another time (in milliseconds); returns its run id."""
    words = (_label(move.version), move.action)
    title = " ".join(words if move.action == PROMOTED else words[::-1])
    tags = {
        "mlflow.runName": title,
        "mlflow.user": move.person,
        "mlflow.note.content": _move_note(name, move),
        **asdict(move),
    }
    if when is None:  # after all others, whatever the clocks of their makers say
        newest = next((_milliseconds(entry) for entry in history(client, name)), 0)
        when = max(round(1000 * time.time()), newest + 1)
    run = client.create_run(_experiment(client, name), when, {key: value for key, value in tags.items() if value})
    metrics = [
        Metric(re.sub(r"[^a-z0-9]+", "_", gate.name.replace("'s", "").lower()), gate.value, when, 0)
        for gate in Decision.read(move.gates).gates
        if gate.value is not None
    ]
    client.log_batch(run.info.run_id, metrics=metrics)
    return str(run.info.run_id)


def _move_note(name: str, move: Move) -> str:
    """A move in Markdown: the versions, who moved it and why, and the gates."""
    after, before = (it if it == NOBODY else versions.link(name, it) for it in (move.version, move.before))
    words = ": ".join(filter(None, [f"{move.action} by {move.person}", move.verdict, move.reason]))
    facts = f"Champion: {after}, {words}. Before: {before}."
    return f"{facts}\n\n{Decision.read(move.gates).markdown}" if move.gates else facts


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    title = names.promotions_name(name)
    experiment = client.get_experiment_by_name(title)
    if experiment is not None:
        return str(experiment.experiment_id)
    return store.create_experiment(client, title, store.about(ABOUT.format(name=name)))
