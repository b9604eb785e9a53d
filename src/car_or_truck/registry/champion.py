"""Moving the champion, and the record of it: an experiment of its own, with one run for each move.

A run is made with all its tags before an alias moves, and finished after the last one has. So a move that was broken
off is recognised, and completed, by the next command; and nothing in the record is ever written over.
"""

from __future__ import annotations

import getpass
import json
import re
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import mlflow
from mlflow.entities import Metric

from car_or_truck import paths
from car_or_truck.cells import names as labels
from car_or_truck.errors import Failure
from car_or_truck.registry import versions as registry
from car_or_truck.registry.gates import Gate, all_hold
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Version
from car_or_truck.tracking import store

PROMOTED, ROLLED_BACK, BY_HAND = "promoted", "rolled back to", "moved by hand"
NOBODY = "none"
ABOUT = (
    "Every move of the alias champion of {name}, one run each. Made by `car-or-truck promote` and `rollback`; a move "
    "made by hand is added when one of them sees it. The metrics are the numbers of the gates."
)


@dataclass(frozen=True)
class Move:
    """One entry of the record."""

    run_id: str
    time: datetime
    action: str
    version: str  # the champion since; NOBODY: the alias was removed
    before: str  # the champion before, or NOBODY
    person: str
    reason: str
    verdict: str
    status: str  # MLflow's: RUNNING while it is under way, FAILED when it came to nothing


def history(client: mlflow.MlflowClient, name: str) -> list[Move]:
    """Every move of a registered model's champion, the newest first."""
    experiment = client.get_experiment_by_name(labels.history_name(name))
    if experiment is None:
        return []
    found, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], page_token=token)
        found += [_move(run) for run in page]
        token = page.token
        if not token:
            return found


def _move(run: Any) -> Move:
    tags = run.data.tags
    return Move(
        run_id=run.info.run_id,
        time=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        action=tags["action"],
        version=tags["version"],
        before=tags["before"],
        person=tags["person"],
        reason=tags.get("reason", ""),
        verdict=tags.get("verdict", ""),
        status=run.info.status,
    )


def settle(client: mlflow.MlflowClient, name: str) -> list[str]:
    """Bring the record and the aliases together; returns a line for each thing that was amiss.

    Completes a move that was broken off after the champion had moved; marks as failed one where it had not. Adds a
    move that was made by hand.
    """
    said = []
    moves, given = history(client, name), registry.aliases(client, name)
    now = str(given[CHAMPION].number) if CHAMPION in given else NOBODY
    for move in moves:
        if move.status == "RUNNING" and move is moves[0] and move.version == now:
            _complete(client, name, move)
            said.append(f"The move of {move.time:%Y-%m-%d %H:%M} UTC was broken off; it is completed now.")
        elif move.status == "RUNNING":
            client.set_terminated(move.run_id, "FAILED")
            said.append(f"The move of {move.time:%Y-%m-%d %H:%M} UTC to version {move.version} had come to nothing.")
    last = next((move.version for move in history(client, name) if move.status == "FINISHED"), NOBODY)
    if last != now:
        run_id = _record(client, name, BY_HAND, now, last, (), "", "unknown")
        if last != NOBODY and registry.exists(client, name, last):
            client.set_registered_model_alias(name, PREVIOUS, last)
        client.set_terminated(run_id, "FINISHED")
        said.append(f"The champion was moved by hand, from {_called(last)} to {_called(now)}: noted in the record.")
    return said


def _called(number: str) -> str:
    return "none" if number == NOBODY else f"version {number}"


def promote(
    client: mlflow.MlflowClient, version: Version, champion: Version | None, gates: tuple[Gate, ...], reason: str
) -> None:
    """Make `version` the champion, and `champion` the previous one. Failure when someone else was quicker."""
    _move_to(client, version, champion, PROMOTED, gates, reason)


def roll_back(client: mlflow.MlflowClient, name: str) -> tuple[Version, Version]:
    """The previous champion is champion again, and the other way round; returns (champion, previous)."""
    given = registry.aliases(client, name)
    for alias in (CHAMPION, PREVIOUS):
        if alias not in given:
            raise Failure(f"{name} has no {alias}: there is nothing to roll back to.")
    _move_to(client, given[PREVIOUS], given[CHAMPION], ROLLED_BACK, (), "")
    return given[PREVIOUS], given[CHAMPION]


def _move_to(
    client: mlflow.MlflowClient,
    version: Version,
    champion: Version | None,
    action: str,
    gates: tuple[Gate, ...],
    reason: str,
) -> None:
    name, number = version.name, str(version.number)
    before = str(champion.number) if champion else NOBODY
    run_id = _record(client, name, action, number, before, gates, reason, person())
    client.set_registered_model_alias(name, CHAMPION, number)
    _complete(client, name, _move(client.get_run(run_id)))
    now = registry.aliases(client, name).get(CHAMPION)
    if now is None or now.number != version.number:
        raise Failure(f"Meanwhile someone else made {now or 'no version'} the champion of {name}; that stands.")


def _complete(client: mlflow.MlflowClient, name: str, move: Move) -> None:
    """The steps after the champion has moved; each may have been done before."""
    if move.before != NOBODY and registry.exists(client, name, move.before):
        client.set_registered_model_alias(name, PREVIOUS, move.before)
    challenger = registry.aliases(client, name).get(CHALLENGER)
    if challenger and str(challenger.number) == move.version:
        client.delete_registered_model_alias(name, CHALLENGER)
    facts = {
        "promotion": f"{move.action} {move.time:%Y-%m-%dT%H:%M:%SZ}",
        "promotion.person": move.person,
        "promotion.verdict": move.verdict,
        "promotion.reason": move.reason,
        "promotion.gates": client.get_run(move.run_id).data.tags.get("gates", ""),
    }
    for key, value in facts.items():
        if value:
            client.set_model_version_tag(name, move.version, key, value)
    client.set_terminated(move.run_id, "FINISHED")


def _record(
    client: mlflow.MlflowClient,
    name: str,
    action: str,
    version: str,
    before: str,
    gates: tuple[Gate, ...],
    reason: str,
    who: str,
) -> str:
    """Add a run to the record, under way; returns its id."""
    tags = {
        "mlflow.runName": f"{action} {_called(version)}" if action != PROMOTED else f"{_called(version)} {action}",
        "mlflow.user": who,
        "action": action,
        "version": version,
        "before": before,
        "person": who,
        "reason": reason,
        "verdict": ("all gates hold" if all_hold(gates) else "forced past the gates") if gates else "",
        "gates": json.dumps([{**asdict(gate), "holds": gate.holds} for gate in gates]) if gates else "",
    }
    run = client.create_run(_experiment(client, name), tags={key: value for key, value in tags.items() if value})
    now = round(1000 * time.time())
    numbers = [Metric(_key(gate), gate.value, now, 0) for gate in gates if gate.value is not None]
    client.log_batch(run.info.run_id, metrics=numbers)
    return str(run.info.run_id)


def _key(gate: Gate) -> str:
    return re.sub(r"[^a-z0-9]+", "_", gate.name.replace("'s", "").lower())


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    title = labels.history_name(name)
    found = client.get_experiment_by_name(title)
    if found is not None:
        return str(found.experiment_id)
    about = {"mlflow.note.content": ABOUT.format(name=name), "mlflow.experimentKind": "custom_model_development"}
    root = paths.root()
    place = (root / "mlruns" / title).as_uri() if store.uri() == f"{store.LOCAL}{root / 'mlflow.db'}" else None
    return str(client.create_experiment(title, place, tags=about))


def person() -> str:
    """Who moves it: git's user, else the login."""
    try:
        return labels.git("config", "user.name") or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
