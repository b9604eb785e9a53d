"""The parts of a run's copy on a tracking server, each brought as far as the server lacks it.

A server of an earlier MLflow, or a hosted one, may lack a part: the others are brought all the same.
"""

from __future__ import annotations

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
from car_or_truck.errors import mask_passwords, summarize
from car_or_truck.tracking import permissions, store
from car_or_truck.tracking.runs import logged_model

MARK = "delivered."  # how the tags begin that only a delivery writes and reads
# Digests of what was sent: it is sent again when it changes here, and what changes on the server alone stands.
ARTIFACTS, MODEL = f"{MARK}artifacts", f"{MARK}model"
NOTES = (MLFLOW_RUN_NOTE, "selection")  # a run's tags that a comparison or a person may change on the server
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
        _say_once(f"The tracking server {mask_passwords(remote.tracking_uri)} {why} {part}: {consequence}.")


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
        if key != MLFLOW_RUN_NAME  # the copy got it when it was made; a person may change it on the server
    ]
    points = []
    for name in run.data.metrics:
        delivered = remote.get_metric_history(target, name) if name in copy.data.metrics else []
        keys = {(point.step, point.timestamp) for point in delivered}
        points += [p for p in local.get_metric_history(run.info.run_id, name) if (p.step, p.timestamp) not in keys]
    remote.log_batch(target, points, params, tags)
    datasets = run.inputs.dataset_inputs if not copy.inputs.dataset_inputs else []
    if datasets:
        with optional(remote, "dataset inputs", "runs there name no dataset"):
            remote.log_inputs(target, datasets)
            return True
    return bool(params or tags or points)


def bring_artifacts(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """All the files of the run, if any of them changed."""
    has_artifacts = run.info.status == "FINISHED" or local.list_artifacts(run.info.run_id)  # else it was killed before
    folder = _files(run.info.artifact_uri, run) if has_artifacts else None
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
        _say_once(f"{run.info.run_name}: files are missing here, and not delivered: {summarize(error, 200)}")
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
    if not (source / "MLmodel").is_file():
        _say_once(f"{run.info.run_name}: a kill left half of its model here, which is not delivered.")
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
    keys = {(point.key, point.step, point.timestamp) for point in theirs.metrics or []}
    points = [
        Metric(p.key, p.value, p.timestamp, p.step, theirs.model_id, p.dataset_name, p.dataset_digest)
        for p in model.metrics or []
        if (p.key, p.step, p.timestamp) not in keys
    ]
    if tags:
        remote.set_logged_model_tags(theirs.model_id, tags)
    remote.log_batch(run_id, points)
    return bool(tags or points)
