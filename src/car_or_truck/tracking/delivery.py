"""Runs copied from the project's own MLflow store to a tracking server.

The copy's tag `delivered.from` names the original, so that an interrupted delivery is continued and
a repeated one adds nothing.
"""

from __future__ import annotations

import queue
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.entities import LoggedModelOutput, Param, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.models import Model

from car_or_truck.errors import in_one_line
from car_or_truck.tracking import store
from car_or_truck.tracking.runs import RELIABILITY

ORIGIN = "delivered.from"
PATIENCE = 30  # seconds that the end of a training waits for a slow server


def deliver(run_id: str, server: str, whole: bool = True) -> tuple[str, bool]:
    """Copy what the server lacks of a run; returns (the copy's run id, whether anything was lacking).

    `whole`: with artifacts, model and version; else the values alone. Raises MlflowException or OSError.
    """
    local, remote = mlflow.MlflowClient(store.own()), mlflow.MlflowClient(server)
    run = local.get_run(run_id)
    with store.one_at_a_time("delivery"):
        copy = _copy(run, local, remote)
        added = _bring_values(run, copy, local, remote)
        if whole:
            added |= _bring_artifacts(run, copy, remote)
            added |= _bring_models(run, copy, local, remote)
            added |= _bring_versions(run, copy, local, remote)
        if (run.info.status, run.info.end_time) != (copy.info.status, copy.info.end_time):
            if run.info.end_time is None:
                remote.update_run(copy.info.run_id, run.info.status)
            else:
                remote.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)
            added = True
    return str(copy.info.run_id), added


def _copy(run: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> Any:
    experiment = local.get_experiment(run.info.experiment_id)
    known = remote.get_experiment_by_name(experiment.name)
    about = {
        key: value for key, value in experiment.tags.items() if key in ("mlflow.note.content", "mlflow.experimentKind")
    }
    place = known.experiment_id if known else remote.create_experiment(experiment.name, tags=about)
    copies = remote.search_runs([place], f"tags.`{ORIGIN}` = '{run.info.run_id}'", max_results=1)
    if copies:
        return remote.get_run(copies[0].info.run_id)
    return remote.create_run(place, run.info.start_time, {ORIGIN: run.info.run_id}, run.info.run_name)


def _bring_values(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """Parameters, tags, datasets, and every point of every metric at its own time."""
    target = copy.info.run_id
    params = [Param(key, value) for key, value in run.data.params.items() if key not in copy.data.params]
    tags = [RunTag(key, value) for key, value in run.data.tags.items() if copy.data.tags.get(key) != value]
    points = []
    for name in run.data.metrics:
        delivered = remote.get_metric_history(target, name) if name in copy.data.metrics else []
        known = {(point.step, point.timestamp) for point in delivered}
        points += [p for p in local.get_metric_history(run.info.run_id, name) if (p.step, p.timestamp) not in known]
    values = (("params", params, store.MOST_PARAMS), ("tags", tags, store.MOST_PARAMS))
    for kind, items, most in (*values, ("metrics", points, store.MOST_METRICS)):
        for start in range(0, len(items), most):
            remote.log_batch(target, **{kind: items[start : start + most]})
    datasets = run.inputs.dataset_inputs if not copy.inputs.dataset_inputs else []
    if datasets:
        remote.log_inputs(target, datasets)
    return bool(params or tags or points or datasets)


def _bring_artifacts(run: Any, copy: Any, remote: mlflow.MlflowClient) -> bool:
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=run.info.artifact_uri, tracking_uri=store.own()))
    known = dict(_listed(remote, copy.info.run_id))
    added = False
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if known.get(name.as_posix()) != path.stat().st_size:
            parent = None if name.parent == Path() else name.parent.as_posix()
            remote.log_artifact(copy.info.run_id, str(path), parent)
            added = True
    return added


def _listed(client: mlflow.MlflowClient, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from _listed(client, run_id, item.path)
        else:
            yield item.path, item.file_size


def _bring_models(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """The run's logged models, with MLmodel files that name the copy as theirs."""
    outputs = run.outputs.model_outputs if run.outputs else []
    known = copy.outputs.model_outputs if copy.outputs else []
    if not outputs or known:
        both = zip(outputs, known, strict=False)
        return any(_bring_reliability(ours.model_id, theirs.model_id, local, remote) for ours, theirs in both)
    delivered = []
    for output in outputs:
        model = local.get_logged_model(output.model_id)
        new = remote.create_logged_model(
            copy.info.experiment_id, model.name, copy.info.run_id, params=model.params, model_type=model.model_type
        )
        with TemporaryDirectory() as folder:
            source = mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location, tracking_uri=store.own())
            shutil.copytree(source, folder, dirs_exist_ok=True)
            about = Model.load(folder)
            about.run_id, about.model_id, about.artifact_path = copy.info.run_id, new.model_id, new.artifact_location
            about.save(str(Path(folder) / "MLmodel"))
            remote.log_model_artifacts(new.model_id, folder)
        remote.finalize_logged_model(new.model_id, "READY")
        _bring_reliability(model.model_id, new.model_id, local, remote)
        delivered.append(LoggedModelOutput(new.model_id, output.step))
    remote.log_outputs(copy.info.run_id, delivered)  # last, so that an interrupted delivery brings them again
    return True


def _bring_reliability(ours: str, theirs: str, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """What an evaluation added to a logged model, perhaps after the model was delivered."""
    model = local.get_logged_model(ours)
    digest = model.tags.get(RELIABILITY)
    if digest is None or remote.get_logged_model(theirs).tags.get(RELIABILITY) == digest:
        return False
    place = f"{model.artifact_location}/data/{RELIABILITY}"
    path = mlflow.artifacts.download_artifacts(artifact_uri=place, tracking_uri=store.own())
    remote.log_model_artifact(theirs, path, "data")
    remote.set_logged_model_tags(theirs, {RELIABILITY: digest})
    return True


def _bring_versions(run: Any, copy: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> bool:
    """The registered version of the run's model, with description and tags; aliases are the server's own."""
    registered = local.search_model_versions(f"run_id = '{run.info.run_id}'")
    known = remote.search_model_versions(f"run_id = '{copy.info.run_id}'")
    models = remote.get_run(copy.info.run_id).outputs.model_outputs
    if not registered or not models:
        return False
    version = registered[0]
    if not known:
        with warnings.catch_warnings(), suppress(RestException):  # it exists already
            warnings.simplefilter("ignore", FutureWarning)
            remote.create_registered_model(
                version.name, description=local.get_registered_model(version.name).description
            )
        remote.create_model_version(
            version.name,
            f"models:/{models[0].model_id}",
            copy.info.run_id,
            version.tags,
            description=version.description,
            model_id=models[0].model_id,
        )
        return True
    for key, value in version.tags.items():
        if known[0].tags.get(key) != value:
            remote.set_model_version_tag(version.name, known[0].version, key, value)
    if known[0].description != version.description:
        remote.update_model_version(version.name, known[0].version, version.description)
    return False


def hand_over(run_id: str) -> None:
    """Deliver a finished run, if there is a server; warn if that fails."""
    server = store.server()
    if server is None:
        return
    try:
        deliver(run_id, server)
    except (MlflowException, OSError) as error:
        warn(server, in_one_line(error, 200))


class Courier:
    """Delivers a run while it is being written, from a thread of its own, so that the training never waits."""

    def __init__(self, run_id: str, server: str) -> None:
        self.run_id, self.server = run_id, server
        self.news: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def call(self) -> None:
        """Deliver what is new."""
        self.news.put(True)

    def close(self) -> None:
        """Deliver the rest; wait at most PATIENCE seconds for it."""
        self.news.put(False)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            warn(self.server, "too slow")

    def _work(self) -> None:
        more = True
        while more:
            more = self.news.get()
            while more and not self.news.empty():  # a slow server gets several epochs at once
                more = self.news.get()
            try:
                deliver(self.run_id, self.server, whole=False)
            except (MlflowException, OSError) as error:
                warn(self.server, in_one_line(error, 200))
                return


def warn(server: str, why: str) -> None:
    """Say that a delivery failed, and that nothing is lost."""
    print(
        f"The tracking server {server} did not take this run ({why}). It is safe in mlflow.db here; "
        "`car-or-truck sync` delivers it later.",
        flush=True,
    )
