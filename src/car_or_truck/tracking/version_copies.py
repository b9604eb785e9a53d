"""The registered version of a run's model, brought to a tracking server with its card and tags.

Aliases and promotions are the server's own.
"""

from __future__ import annotations

import json
import re
from typing import Any

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NOTE

from car_or_truck import files
from car_or_truck.tracking import store
from car_or_truck.tracking.copies import FOLDER, MARK, NOTES, optional
from car_or_truck.tracking.runs import logged_model, was_deleted

WORDS = f"{MARK}words"  # the digest of the notes that were sent
RUNS = "runs"  # a version's tag: its run, and the others that gave the same bytes, mostly colleagues'


def bring_version(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """Bring the version; returns whether anything was lacking.

    A version with the same bytes that is there is taken instead, and names this run too. Versions under other names,
    which a person gave the model in the UI, stay where they are.
    """
    ours, added = _find_ours(run, local), False
    if ours is None:
        return _bring_words(run, copy, remote)
    with optional(remote, "model registry", "models get no version there"):
        theirs = _find_version(ours, copy.info.run_id, remote)
        if theirs is None:
            if logged_model(run, local)[0] or logged_model(remote.get_run(copy.info.run_id), remote)[0]:
                return False
            theirs, added = _register(ours, copy.info.run_id, local, remote), True
        elif theirs.run_id != copy.info.run_id:
            return _bring_words(run, copy, remote, ours, theirs) | _name_run(theirs, copy, remote)
        for key, value in _tags(ours).items():
            if theirs.tags.get(key) != value:
                remote.set_model_version_tag(ours.name, theirs.version, key, value)
        return _bring_words(run, copy, remote, ours, theirs) or added
    return added


def _find_ours(run: Any, local: mlflow.MlflowClient) -> Any | None:
    """The version of the run's model here; that of another run which gave the same bytes, if it is linked to it."""
    name = local.get_experiment(run.info.experiment_id).name
    own = local.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    if own:
        return own[0]
    model = logged_model(run, local)[1]
    links = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]")) if model else []
    numbers = {str(link["version"]) for link in links if link["name"] == name}
    same = local.search_model_versions(f"name = '{name}' and tags.cell = '{run.data.tags.get('cell')}'")
    return next((version for version in same if str(version.version) in numbers), None)


def _tags(version: Any) -> dict[str, str]:
    return {key: value for key, value in version.tags.items() if not key.startswith("promotion")}


def _find_version(ours: Any, run_id: str, remote: mlflow.MlflowClient) -> Any | None:
    """The server's version of the run `run_id`, else the oldest one of the same cell and bytes that can be loaded."""
    own = remote.search_model_versions(f"name = '{ours.name}' and run_id = '{run_id}'")
    if own:
        return own[0]
    sha256 = ours.tags.get("model.sha256")
    same = [
        version
        for version in remote.search_model_versions(f"name = '{ours.name}' and tags.cell = '{ours.tags.get('cell')}'")
        if sha256 and version.tags.get("model.sha256") == sha256 and not was_deleted(version.run_id, remote)
    ]
    return min(same, key=lambda version: int(version.version), default=None)


def _register(ours: Any, run_id: str, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> Any:
    store.ensure_registered_model(remote, ours.name, local.get_registered_model(ours.name).description)
    models = remote.get_run(run_id).outputs.model_outputs
    model_id = models[0].model_id if models else None
    source = f"models:/{model_id}" if model_id else f"runs:/{run_id}/{FOLDER}"
    return remote.create_model_version(ours.name, source, run_id, _tags(ours), model_id=model_id)


def _name_run(version: Any, copy: Any, remote: mlflow.MlflowClient) -> bool:
    """Name a colleague's run in the version of the same bytes, and the version on that run's logged model."""
    named = version.tags.get(RUNS, version.run_id)
    if copy.info.run_id in named:
        return False
    remote.set_model_version_tag(version.name, version.version, RUNS, f"{named}, {copy.info.run_id}")
    for output in remote.get_run(copy.info.run_id).outputs.model_outputs:
        link = [{"name": version.name, "version": version.version}]
        remote.set_logged_model_tags(output.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
    return True


def _bring_words(run: Any, copy: Any, remote: mlflow.MlflowClient, ours: Any = None, theirs: Any = None) -> bool:
    """The notes of run and model, and the card of its own version; each names the server's version instead of ours."""
    target, notes = copy.info.run_id, {key: run.data.tags[key] for key in NOTES if key in run.data.tags}
    if ours and theirs.run_id == target:
        notes |= {"card": ours.description or "", "version": str(theirs.version)}
    digest = files.content_digest(notes.items())
    if not notes or copy.data.tags.get(WORDS) == digest:
        return False
    if ours:
        before = rf"(?<=models:/{ours.name}/)|(?<=models/{ours.name}/versions/)|(?<=Version )"
        number = re.compile(rf"(?:{before}){ours.version}\b")
        notes = {key: number.sub(str(theirs.version), text) for key, text in notes.items()}
    for key in NOTES:
        if key in notes:
            remote.set_tag(target, key, notes[key])
    model = logged_model(remote.get_run(target), remote)[1]
    if model and MLFLOW_RUN_NOTE in notes:
        remote.set_logged_model_tags(model.model_id, {MLFLOW_RUN_NOTE: notes[MLFLOW_RUN_NOTE]})
    if "card" in notes:
        remote.update_model_version(theirs.name, theirs.version, notes["card"])
    remote.set_tag(target, WORDS, digest)
    return True
