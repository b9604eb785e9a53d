"""The moves of the alias champion.

A move's run is created with all its tags before the first alias moves, and finished after the last one
has. So the next command recognises and completes a move that was interrupted, and no entry of the
record is ever overwritten.
"""

from __future__ import annotations

import getpass
from dataclasses import fields

import mlflow

from car_or_truck.errors import Failure
from car_or_truck.git import git
from car_or_truck.registry import ledger, moves, versions
from car_or_truck.registry.gates import Decision
from car_or_truck.registry.moves import BY_HAND, NOBODY, PROMOTED, PROMOTION, ROLLED_BACK, Move, RecordedMove, label
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version


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
    recorded, aliases = moves.history(client, name), versions.aliases(client, name)
    now = str(aliases[CHAMPION].number) if CHAMPION in aliases else NOBODY
    for move in recorded:
        if move.status == "RUNNING" and move is recorded[0] and move.version == now:
            _complete(client, name, move)
            lines.append(f"The move of {move.time:%Y-%m-%d %H:%M} UTC was interrupted; it is complete now.")
        elif move.status == "RUNNING":
            client.set_terminated(move.run_id, "FAILED")
            lines.append(f"The move of {move.time:%Y-%m-%d %H:%M} UTC to version {move.version} had not happened.")
    last = next((move.version for move in moves.history(client, name) if move.status == "FINISHED"), NOBODY)
    if last != now:
        run_id = moves.record(client, name, Move(BY_HAND, now, last, "unknown"))
        if last != NOBODY and versions.exists(client, name, last):
            client.set_registered_model_alias(name, PREVIOUS, last)
        client.set_terminated(run_id, "FINISHED")
        lines.append(f"The champion was moved by hand, from {label(last)} to {label(now)}; this is recorded now.")
    _note(client, name)
    return lines


def restore(client: mlflow.MlflowClient, name: str) -> int:
    """Bring back the moves that the ledger has and the record lacks, with their aliases and tags; returns how many.

    An alias that is there stays where it is.
    """
    _note(client, name)
    noted = ledger.read(client.tracking_uri, name, ledger.MOVES)
    known = {_milliseconds(move): move for move in moves.history(client, name)}
    # One that is noted and still under way was left so by a `restore` that was interrupted.
    lost = [when for when in noted if when not in known or known[when].status == "RUNNING"]
    last: dict[str, str] = {}
    for facts in noted.values():
        last[CHAMPION] = facts["version"]
        last[PREVIOUS] = facts["before"] if facts["before"] != NOBODY else last.get(PREVIOUS, NOBODY)
    there = versions.aliases(client, name)
    for alias, number in last.items() if lost else ():  # first, so that after a kill they are not taken for done
        if alias not in there and versions.exists(client, name, number):
            client.set_registered_model_alias(name, alias, number)
    for when in lost:
        move = known.get(when) or moves.read(client.get_run(moves.record(client, name, Move(**noted[when]), when)))
        if move.action != BY_HAND and versions.exists(client, name, move.version):
            _mark(client, name, move)
        client.set_terminated(move.run_id, "FINISHED", when)
    return len(lost)


def _note(client: mlflow.MlflowClient, name: str) -> None:
    """Note the record in the ledger."""
    finished = [move for move in moves.history(client, name) if move.status == "FINISHED"]
    facts = {
        _milliseconds(move): {field.name: getattr(move, field.name) for field in fields(Move)} for move in finished
    }
    ledger.note(client.tracking_uri, name, ledger.MOVES, facts)


def _milliseconds(move: RecordedMove) -> int:
    return round(1000 * move.time.timestamp())


def promote(
    client: mlflow.MlflowClient, version: Version, champion: Version | None, decision: Decision, reason: str
) -> None:
    """Make `version` the champion, and `champion` the previous one. Failure when someone else was quicker."""
    before = str(champion.number) if champion else NOBODY
    verdict = "all gates pass" if decision.passes else "forced past the gates"
    move = Move(PROMOTED, str(version.number), before, person(), reason, verdict, decision.markdown)
    _make(client, version, move)


def roll_back(client: mlflow.MlflowClient, name: str) -> tuple[Version, Version]:
    """Swap champion and previous; returns (champion, previous)."""
    aliases = versions.aliases(client, name)
    for alias in (CHAMPION, PREVIOUS):
        if alias not in aliases:
            raise Failure(f"Nothing to roll back to: {name} has no {alias}.")
    champion, previous = aliases[PREVIOUS], aliases[CHAMPION]
    _make(client, champion, Move(ROLLED_BACK, str(champion.number), str(previous.number), person()))
    return champion, previous


def _make(client: mlflow.MlflowClient, version: Version, move: Move) -> None:
    run_id = moves.record(client, version.name, move)
    client.set_registered_model_alias(version.name, CHAMPION, move.version)
    _complete(client, version.name, moves.read(client.get_run(run_id)))
    now = versions.aliases(client, version.name).get(CHAMPION)
    if now is None or now.number != version.number:
        raise Failure(f"Someone else made {now or 'no version'} the champion of {version.name} meanwhile; that stands.")
    _note(client, version.name)


def _complete(client: mlflow.MlflowClient, name: str, move: RecordedMove) -> None:
    """The steps after the champion has moved; any of them may be done already."""
    if move.before != NOBODY and versions.exists(client, name, move.before):
        client.set_registered_model_alias(name, PREVIOUS, move.before)
    challenger = versions.aliases(client, name).get(CHALLENGER)
    if challenger and str(challenger.number) == move.version:
        versions.remove_challenger(client, name)
    _mark(client, name, move)
    client.set_terminated(move.run_id, "FINISHED")


def _mark(client: mlflow.MlflowClient, name: str, move: RecordedMove) -> None:
    """Say on the new champion, in a tag, how it became that."""
    words = f"{move.action} {move.time:%Y-%m-%dT%H:%M:%SZ} by {move.person}"
    words = ": ".join([words, *filter(None, [move.verdict, move.reason])])
    client.set_model_version_tag(name, move.version, PROMOTION, words)


def person() -> str:
    """Who moves it: git's user, or else the login."""
    try:
        return git("config", "user.name") or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
