"""The registered models: one version for each trained cell, found by number, alias or URI."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from car_or_truck import files, paths
from car_or_truck.cells import names as labels
from car_or_truck.errors import Failure
from car_or_truck.registry import card as cards
from car_or_truck.tracking import store

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ABOUT = (
    "One version for each trained cell; its description is the model card. The alias champion is what `car-or-truck "
    "predict` asks, challenger the best cell of the last comparison, previous the champion before. `car-or-truck "
    "promote` moves them, through the gates of params.yaml. The experiment {history} lists every promotion."
)
HEADLINES = {
    "val_binary_accuracy": ".4f",
    "val_loss": ".4f",
    "val_roc_auc": ".4f",
    "generalization_gap": "+.4f",
    "overfit_epoch": "d",
    "overfit_rise": "+.4f",
    "parameters": ",d",
}

# As they were when it was trained: an evaluation may be run from another commit.
FROM_RUN = (
    "cell",
    "variant",
    "seed",
    "precision",
    "data.source",
    "data.digest",
    "dvc.stage",
    "dvc.exp",
    "git.commit",
    "git.dirty",
    "rebuilt",
)


@dataclass(frozen=True)
class Version:
    """A registered version, as it was when it was read."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """What MLflow loads it by."""
        return f"models:/{self.name}/{self.number}"

    def __str__(self) -> str:
        cell = f" ({self.tags['variant']}-{self.tags['seed']})" if {"variant", "seed"} <= set(self.tags) else ""
        return f"version {self.number}{cell}"


def register(run_id: str, cell: dict[str, Any], metrics: dict[str, Any]) -> Version | None:
    """The version of the run's model, made if the cell has none; None when the run holds no model.

    A cell that was trained again to the same bytes keeps its version; tags and card are renewed.
    """
    client, name = mlflow.MlflowClient(), labels.experiment_name(cell)
    run = client.get_run(run_id)
    outputs = run.outputs
    if not outputs or not outputs.model_outputs:
        return None
    model = paths.model_folder(cell["variant"], cell["seed"]) / "model.keras"
    tags = {
        **{key: run.data.tags[key] for key in FROM_RUN if key in run.data.tags},
        **{key: format(metrics[key], form) for key, form in HEADLINES.items()},
        "model.sha256": files.sha256(model),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            client.create_registered_model(name, description=ABOUT.format(history=labels.history_name(name)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = _existing(client, name, run_id, tags)
        if version is None:
            model_id = outputs.model_outputs[0].model_id
            made = client.create_model_version(name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
            version = _version(made)
        for key, value in tags.items():
            if key in HEADLINES and version.tags.get(key) != value:
                client.set_model_version_tag(name, str(version.number), key, value)
        client.update_model_version(name, str(version.number), cards.card(cell, metrics, version.uri))
    return version


def _existing(client: mlflow.MlflowClient, name: str, run_id: str, tags: dict[str, str]) -> Version | None:
    """The version of this run, or of another one that gave the same cell the same bytes."""
    for version in of_cell(client, name, tags["cell"]):
        if version.run_id == run_id or version.tags.get("model.sha256") == tags["model.sha256"]:
            return version
    return None


def versions(client: mlflow.MlflowClient, name: str, where: str = "") -> list[Version]:
    """Every version of a registered model, the newest first; `where`: MLflow's filter."""
    condition = f"name = '{name}'" + (f" and {where}" if where else "")
    found, token = [], None
    while True:
        page = client.search_model_versions(condition, page_token=token)
        found += [_version(version) for version in page]
        token = page.token
        if not token:
            return sorted(found, key=lambda version: -version.number)


def of_cell(client: mlflow.MlflowClient, name: str, cell: str) -> list[Version]:
    """The versions of one cell, by its fingerprint; the newest first."""
    return versions(client, name, f"tags.cell = '{cell}'")


def _version(found: Any) -> Version:
    return Version(found.name, int(found.version), found.run_id or "", dict(found.tags or {}))


def aliases(client: mlflow.MlflowClient, name: str) -> dict[str, Version]:
    """The versions that have an alias."""
    given = client.get_registered_model(name).aliases
    return {alias: _version(client.get_model_version(name, str(number))) for alias, number in given.items()}


def exists(client: mlflow.MlflowClient, name: str, number: str) -> bool:
    """Whether a version is still there."""
    try:
        client.get_model_version(name, number)
    except MlflowException:
        return False
    return True


def model_name(client: mlflow.MlflowClient) -> str:
    """The registered model that the images in data/prepared belong to; else the one that there is."""
    names = (labels.NAME, f"{labels.NAME}-rendered")
    there = [name for name in names if client.search_registered_models(f"name = '{name}'")]
    if not there:
        raise Failure(f"The store {store.uri()} has no registered model {labels.NAME} yet. Run `dvc repro`.")
    try:
        fitting = labels.experiment_name({"data": files.read_json(paths.PREPARED / "dataset.json", "")})
    except (Failure, KeyError):
        return there[0]
    return fitting if fitting in there else there[0]


def find(client: mlflow.MlflowClient, wanted: str) -> Version:
    """The version that a person names: 3, an alias, models:/NAME/3 or models:/NAME@ALIAS."""
    match = re.fullmatch(r"(?:models:/([^/@]+)[/@])?([^/@]+)", wanted.removeprefix("@"))
    if not match:
        raise Failure(f"{wanted!r} names no version: give 3, champion, models:/NAME/3 or models:/NAME@champion.")
    name = match.group(1) or model_name(client)
    try:
        if match.group(2).isdigit():
            return _version(client.get_model_version(name, match.group(2)))
        return _version(client.get_model_version_by_alias(name, match.group(2)))
    except MlflowException:
        remedy = "" if match.group(2) != CHAMPION else " `car-or-truck promote` makes one."
        raise Failure(f"{name} has no version {match.group(2)!r}.{remedy}{_known(client, name)}") from None


def _known(client: mlflow.MlflowClient, name: str) -> str:
    try:
        given = client.get_registered_model(name).aliases
        numbers = ", ".join(str(version.number) for version in versions(client, name)[:10])
    except MlflowException:
        return ""
    named = "".join(f", {alias} ({number})" for alias, number in sorted(given.items()))
    return f" It has {numbers}{named}." if numbers else ""
