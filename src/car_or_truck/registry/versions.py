"""The registered models: one version a trained model, looked up by number, alias or URI."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NOTE

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import TrainedCell, read_dataset
from car_or_truck.cells.results import Result
from car_or_truck.errors import Failure, mask_passwords
from car_or_truck.registry import ledger
from car_or_truck.registry.card import card
from car_or_truck.tracking import copies, faults, permissions, provenance, runs, store

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
SELECTION = "selection"  # a tag of a version's run: how far being the best of several flatters it
ABOUT = (
    "One version a trained model; its description is the model card. `car-or-truck predict` uses the alias champion; "
    "challenger is the best model of the last comparison, previous the champion before. `car-or-truck promote` moves "
    "them, through the gates of params.yaml. The experiment {history} lists every promotion."
)
# The tags of a version: few, because the UI lists all of them on its page and in its row; the run has the rest.
HEADLINES = {"accuracy": "val_binary_accuracy", "generalization_gap": "generalization_gap"}


def open_registry() -> mlflow.MlflowClient:
    """A client of the store that people look at, which has a registry; Failure where it has none, or is none."""
    client = store.open_store()
    try:
        client.search_registered_models(max_results=1)
    except MlflowException as error:
        if error.error_code in copies.UNKNOWN:
            raise Failure(f"The tracking server {mask_passwords(store.uri())} has no model registry.") from None
        raise faults.unusable(error, store.uri()) from error
    return client


@dataclass(frozen=True)
class Version:
    """A registered version, as it was when it was read."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """The URI that MLflow loads it by."""
        return f"models:/{self.name}/{self.number}"

    @property
    def synthetic(self) -> bool:
        """Whether its model was trained on the stand-in; one that a person registered says it by its name alone."""
        return self.name == names.SYNTHETIC or self.tags.get("data.source") == "rendered"

    def __str__(self) -> str:
        cell = f" ({self.tags['variant']}-{self.tags['seed']})" if {"variant", "seed"} <= set(self.tags) else ""
        return f"version {self.number}{cell}"


def record_evaluation(run_id: str, cell: TrainedCell, scores: dict[str, Any]) -> Version:
    """Add a model's evaluation to its run and to its logged model, and register that; see `register`."""
    version = register(run_id, cell, scores)
    for evaluated in {run_id, version.run_id}:  # two of a cell that was trained again to the same bytes
        runs.log_evaluation(evaluated, cell, scores)
        provenance.log_results(evaluated, cell)
    reliability = cell.report_folder / runs.RELIABILITY
    if reliability.is_file():  # an earlier project's evaluation has none
        runs.add_reliability(version.run_id, reliability)
    return version


def register(run_id: str, cell: TrainedCell, scores: dict[str, Any]) -> Version:
    """The version of the run's model, created if need be.

    A cell that was trained again to the same bytes keeps its version; tags and card are renewed.
    """
    client, name = mlflow.MlflowClient(), names.experiment_name(cell.stand_in)
    identity = ledger.identity(cell)
    headlines = {key: f"{scores[score]:.4f}" for key, score in HEADLINES.items()}
    tags = {**headlines, **identity, "data.source": cell.data.source}
    store.ensure_registered_model(client, name, ABOUT.format(history=names.promotions_name(name)))
    with store.one_at_a_time("versions"):
        version = existing(client, name, run_id, identity) or _create(client, name, run_id, tags, identity)
        ledger.note(client.tracking_uri, name, ledger.VERSIONS, {version.number: identity})
    for key, value in headlines.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, str(version.number), key, value)
    _write_card(client, version, run_id, cell, scores)
    return version


def _write_card(
    client: mlflow.MlflowClient, version: Version, run_id: str, cell: TrainedCell, scores: dict[str, Any]
) -> None:
    """The model card on the page of the version, and below a link to that, of its run and of its logged model."""
    text = card(cell, scores, version.uri, selection(client, version))
    client.update_model_version(version.name, str(version.number), text)
    note = f"{link(version.name, version.number)}\n\n{text}"
    registered = [{"name": version.name, "version": version.number}]  # makes the UI call the logged model registered
    tags = {MLFLOW_MODEL_VERSIONS: json.dumps(registered), MLFLOW_RUN_NOTE: note}
    for described in {run_id, version.run_id}:
        client.set_tag(described, MLFLOW_RUN_NOTE, note)
        _, model = runs.logged_model(client.get_run(described), client)
        if model:  # not on a server without logged models, nor of one that a person deleted
            client.set_logged_model_tags(model.model_id, tags)


def describe_selection(client: mlflow.MlflowClient, version: Version, result: Result, words: str) -> None:
    """Say of a version, in a tag of its run and in its card, that being chosen from several may flatter it."""
    client.set_tag(version.run_id, SELECTION, words)
    _write_card(client, version, version.run_id, result.cell, result.scores)


def selection(client: mlflow.MlflowClient, version: Version) -> str:
    """How far being the best of several flatters a version; empty if it was not chosen from several."""
    return str(client.get_run(version.run_id).data.tags.get(SELECTION, ""))


def existing(client: mlflow.MlflowClient, name: str, run_id: str, identity: dict[str, str]) -> Version | None:
    """The version of this run, or of another run that gave the same cell the same bytes and still has them."""
    for version in versions(client, name, f"tags.cell = '{identity['cell']}'"):
        same = version.tags.get("model.sha256") == identity["model.sha256"]
        if version.run_id == run_id or (
            same and runs.is_whole(version.run_id) and runs.has_files(client.get_run(version.run_id))
        ):
            return version
    return None


def _create(
    client: mlflow.MlflowClient, name: str, run_id: str, tags: dict[str, str], identity: dict[str, str]
) -> Version:
    """A version with the number that the model had in a store that was lost, else with one that was never given."""
    noted, model_id = ledger.read(client.tracking_uri, name, ledger.VERSIONS), runs.model_id(client.get_run(run_id))
    own = ledger.number(noted, identity)
    while True:
        version = _version(
            client.create_model_version(name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
        )
        if version.number == own or version.number > max(noted, default=0):
            return version
        client.delete_model_version(name, str(version.number))  # another's number; MLflow does not give it again


def versions(client: mlflow.MlflowClient, name: str, where: str = "") -> list[Version]:
    """Every version of a registered model, the newest first; `where`: MLflow's filter."""
    condition = f"name = '{name}'" + (f" and {where}" if where else "")
    registered = runs.pages(lambda token: client.search_model_versions(condition, page_token=token))
    return sorted(map(_version, registered), key=lambda version: -version.number)


def _version(version: Any) -> Version:
    return Version(version.name, int(version.version), version.run_id or "", version.tags)


def aliases(client: mlflow.MlflowClient, name: str) -> dict[str, Version]:
    """The versions that have an alias."""
    numbers = client.get_registered_model(name).aliases
    return {alias: _version(client.get_model_version(name, str(number))) for alias, number in numbers.items()}


def link(name: str, number: int | str) -> str:
    """A link to a version's page in the UI, in Markdown."""
    return f"[Version {number} of {name}](#/models/{name}/versions/{number})"


def remove_challenger(client: mlflow.MlflowClient, name: str) -> None:
    """Remove the alias challenger, if the server permits it: MLflow asks for more than for moving an alias."""
    try:
        client.delete_registered_model_alias(name, CHALLENGER)
    except MlflowException as error:
        if not permissions.is_refusal(error):
            raise


def exists(client: mlflow.MlflowClient, name: str, number: str) -> bool:
    """Whether a version is still there."""
    return _if_there(client.get_model_version, name, number) is not None


def refuse_deleted(client: mlflow.MlflowClient, version: Version) -> None:
    """Raise Failure for a version that no run belongs to, or whose run or model a person deleted."""
    if not version.run_id:
        words = "was registered by hand, without a run: nothing is known of it. Remove its aliases in the MLflow UI."
        raise Failure(f"{version} of {version.name} {words}")
    if runs.was_deleted(version.run_id, client):
        raise Failure(
            f"{version} of {version.name} has lost its run or its model: in the MLflow UI somebody deleted it."
        )


def _if_there(get: Callable[..., Any], *key: str) -> Any | None:
    """What `get` gets from the store; None if it is not there. Raises Failure when the store does not say."""
    try:
        return get(*key)
    except MlflowException as error:
        if error.get_http_status_code() in (400, 404):  # for an unknown alias MLflow has 400
            return None
        raise faults.unusable(error, store.uri()) from error


def model_name(client: mlflow.MlflowClient) -> str:
    """The registered model that the images in data/prepared belong to, or else the one that exists."""
    # One by one, because a search finds none on a server of MLflow 2.
    model_names = [name for name in (names.REAL, names.SYNTHETIC) if _if_there(client.get_registered_model, name)]
    try:
        fitting = names.experiment_name(read_dataset(paths.root()).stand_in)
    except Failure:
        fitting = names.REAL
    if not model_names:
        remedy = "Run `dvc repro`, or after a loss `car-or-truck sync`."
        raise Failure(f"The store {store.uri()} has no registered model {fitting} yet. {remedy}")
    return fitting if fitting in model_names else model_names[0]


def find(client: mlflow.MlflowClient, version_name: str) -> Version:
    """The version by its name: 3, an alias, models:/NAME/3 or models:/NAME@ALIAS."""
    match = re.fullmatch(r"(?:models:/([^/@]+)[/@])?([^/@]+)", version_name.removeprefix("@"))
    if not match:
        raise Failure(f"{version_name!r} is not a version: give 3, champion, models:/NAME/3 or models:/NAME@champion.")
    name, key = match.group(1) or model_name(client), match.group(2)
    get = client.get_model_version if key.isdigit() else client.get_model_version_by_alias
    # A number that no database can hold is none of a version.
    registered = None if len(key) > 18 and key.isdigit() else _if_there(get, name, key)
    if registered is None:
        remedy = " `car-or-truck promote` makes one." if key == CHAMPION else ""
        raise Failure(f"{name} has no version {key!r}.{remedy}{_known(client, name)}")
    return _version(registered)


def _known(client: mlflow.MlflowClient, name: str) -> str:
    try:
        aliased = client.get_registered_model(name).aliases
        numbers = ", ".join(str(version.number) for version in versions(client, name)[:10])
    except MlflowException:
        return ""
    named = "".join(f", {alias} ({number})" for alias, number in sorted(aliased.items()))
    return f" It has {numbers}{named}." if numbers else ""
