"""The parts of a run's copy on a tracking server, each brought as far as the server lacks it.

A server of an earlier MLflow, or a hosted one, may lack a part: the others are brought all the same.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from car_or_truck import files
from car_or_truck.errors import in_one_line, without_passwords
from car_or_truck.tracking import permissions, store
from car_or_truck.tracking.runs import logged_model

MARK = "delivered."  # how the tags begin that only a delivery writes and reads
# Digests of what was sent: it is sent again when it changes here, and what changes on the server alone stands.
ARTIFACTS, MODEL, WORDS = f"{MARK}artifacts", f"{MARK}model", f"{MARK}words"
NOTES = (MLFLOW_RUN_NOTE, "selection")  # a run's tags that a comparison or a person may change on the server
GIVEN = (MLFLOW_RUN_NAME, "mlflow.runColor")  # tags that a copy gets once: a person may change them on the server
RUNS = "runs"  # a version's tag: its run, and those of colleagues that gave the same bytes
UNKNOWN = ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED")
FOLDER = "model"  # where a run keeps its model on a server without logged models


@contextmanager
def optional(remote: mlflow.MlflowClient, part: str, consequence: str) -> Iterator[None]:
    """Try to bring a part; say once a process that the server lacks it, or does not let this person write it."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in UNKNOWN and not permissions.is_denied(error):
            raise
        why = "has no" if error.error_code in UNKNOWN else "does not let you write to its"
        _say_once(f"The tracking server {without_passwords(remote.tracking_uri)} {why} {part}: {consequence}.")


@cache
def _say_once(words: str) -> None:
    print(words, flush=True)


def bring_values(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """Parameters, tags, datasets, and every point of every metric at its own time."""
    target = copy.info.run_id
    params = [Param(key, value) for key, value in run.data.params.items() if key not in copy.data.params]
    tags = [
        RunTag(key, value)
        for key, value in run.data.tags.items()
        if copy.data.tags.get(key) != value and key not in NOTES and not key.startswith(MARK)
        if not (key in GIVEN and key in copy.data.tags)
    ]
    points = []
    for name in run.data.metrics:
        delivered = remote.get_metric_history(target, name) if name in copy.data.metrics else []
        known = {(point.step, point.timestamp) for point in delivered}
        points += [p for p in local.get_metric_history(run.info.run_id, name) if (p.step, p.timestamp) not in known]
    remote.log_batch(target, points, params, tags)
    datasets = run.inputs.dataset_inputs if not copy.inputs.dataset_inputs else []
    if datasets:
        with optional(remote, "dataset inputs", "runs there name no dataset"):
            remote.log_inputs(target, datasets)
            return True
    return bool(params or tags or points)


def bring_artifacts(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """All the files of the run, if any of them changed."""
    written = run.info.status == "FINISHED" or local.list_artifacts(run.info.run_id)  # else it was killed before
    folder = _files(run.info.artifact_uri, run) if written else None
    digest = _digest(folder) if folder else None
    if folder is None or copy.data.tags.get(ARTIFACTS) == digest:
        return False
    remote.log_artifacts(copy.info.run_id, str(folder))
    remote.set_tag(copy.info.run_id, ARTIFACTS, digest)  # last, so that an interrupted delivery brings them again
    return True


def _files(location: str, run: Any) -> Path | None:
    """The files that the own store keeps at `location`; None, after saying so, when they are gone."""
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=location, tracking_uri=store.own()))
    except (MlflowException, OSError) as error:
        _say_once(f"{run.info.run_name}: files are missing here, and not delivered: {in_one_line(error, 200)}")
        return None


def _digest(folder: Path) -> str:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return files.content_digest((path.relative_to(folder).as_posix(), files.sha256(path)) for path in paths)


def bring_model(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """The run's logged model with what is known of it, or its files where the server has no logged models."""
    target = copy.info.run_id
    (_, model), (lost, theirs) = logged_model(run, local), logged_model(copy, remote)
    source = _files(model.artifact_location, run) if model and not lost else None
    if model is None or source is None:
        return False
    digest = _digest(source)
    added = copy.data.tags.get(MODEL) != digest
    if added:
        if theirs is None:
            with optional(remote, "logged models", f"a model goes into the folder {FOLDER} of its run"):
                theirs = remote.create_logged_model(
                    copy.info.experiment_id, model.name, target, params=model.params, model_type=model.model_type
                )
                remote.log_outputs(target, [LoggedModelOutput(theirs.model_id, run.outputs.model_outputs[0].step)])
        _send_model(source, target, theirs, remote)
        remote.set_tag(target, MODEL, digest)
    return (_describe_model(model, theirs, target, remote) if theirs else False) or added


def _send_model(source: Path, run_id: str, theirs: Any | None, remote: mlflow.MlflowClient) -> None:
    """The files of a model, with an MLmodel file that names the copy as its run."""
    with TemporaryDirectory() as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        about = Model.load(folder)
        about.run_id = run_id
        about.model_id, about.artifact_path = (theirs.model_id, theirs.artifact_location) if theirs else (None, FOLDER)
        about.save(str(Path(folder) / "MLmodel"))
        if theirs:
            remote.log_model_artifacts(theirs.model_id, folder)
            remote.finalize_logged_model(theirs.model_id, "READY")
        else:
            remote.log_artifacts(run_id, folder, FOLDER)


def _describe_model(model: Any, theirs: Any, run_id: str, remote: mlflow.MlflowClient) -> bool:
    """The tags and metrics of a logged model, with the datasets of these."""
    tags = {
        key: value
        for key, value in model.tags.items()
        # These name versions of the store here.
        if theirs.tags.get(key) != value and key not in (MLFLOW_MODEL_VERSIONS, MLFLOW_RUN_NOTE)
    }
    known = {(point.key, point.step, point.timestamp) for point in theirs.metrics or []}
    points = [
        Metric(p.key, p.value, p.timestamp, p.step, theirs.model_id, p.dataset_name, p.dataset_digest)
        for p in model.metrics or []
        if (p.key, p.step, p.timestamp) not in known
    ]
    if tags:
        remote.set_logged_model_tags(theirs.model_id, tags)
    remote.log_batch(run_id, points)
    return bool(tags or points)


def bring_version(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """The registered version of the run's model, with card and tags; aliases and promotions are the server's own.

    A version with the same bytes that a colleague delivered is taken instead, and names this run too. Versions under
    other names, which a person gave the model in the UI, stay where they are.
    """
    name = local.get_experiment(run.info.experiment_id).name
    registered = local.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    if not registered:
        return _bring_words(run, copy, remote)
    ours, added = registered[0], False
    with optional(remote, "model registry", "models get no version there"):
        theirs = _find_version(ours, copy.info.run_id, remote)
        if theirs is None and (
            logged_model(run, local)[0] or logged_model(remote.get_run(copy.info.run_id), remote)[0]
        ):
            return False
        if theirs is None:
            theirs, added = _register(ours, copy.info.run_id, local, remote), True
        elif theirs.run_id != copy.info.run_id:
            return _bring_words(run, copy, remote, ours, theirs) | _name_run(theirs, copy, remote)
        for key, value in _tags(ours).items():
            if theirs.tags.get(key) != value:
                remote.set_model_version_tag(ours.name, theirs.version, key, value)
        return _bring_words(run, copy, remote, ours, theirs) or added
    return added


def _tags(version: Any) -> dict[str, str]:
    return {key: value for key, value in version.tags.items() if not key.startswith("promotion")}


def _find_version(ours: Any, run_id: str, remote: mlflow.MlflowClient) -> Any | None:
    """The server's version of the run `run_id`, else the oldest one of the same cell and bytes."""
    own = remote.search_model_versions(f"name = '{ours.name}' and run_id = '{run_id}'")
    if own:
        return own[0]
    sha256 = ours.tags.get("model.sha256")
    same = [
        version
        for version in remote.search_model_versions(f"name = '{ours.name}' and tags.cell = '{ours.tags.get('cell')}'")
        if sha256 and version.tags.get("model.sha256") == sha256
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
