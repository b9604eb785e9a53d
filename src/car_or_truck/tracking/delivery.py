"""Runs brought from the project's own MLflow store to a tracking server, each whole and once.

A delivered run says in the tag `delivered.from` which run it is a copy of, so that a delivery that was
broken off is taken up again, and one that is repeated adds nothing.
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

from car_or_truck.tracking import store

ORIGIN = "delivered.from"
PATIENCE = 30  # seconds that the end of a training waits for a server at most


def deliver(run_id: str, server: str, whole: bool = True) -> tuple[str, bool]:
    """Bring what the server lacks of a run of the project's own store; returns (its run there, whether it lacked any).

    `whole`: with its artifacts and model; else what a running one has. Raises MlflowException or OSError.
    """
    here, there = mlflow.MlflowClient(store.own()), mlflow.MlflowClient(server)
    run = here.get_run(run_id)
    with store.one_at_a_time("delivery"):
        copy = _copy(run, here, there)
        added = _bring_values(run, copy, here, there)
        if whole:
            added |= _bring_artifacts(run, copy, there)
            added |= _bring_models(run, copy, here, there)
            added |= _bring_versions(run, copy, here, there)
        if (run.info.status, run.info.end_time) != (copy.info.status, copy.info.end_time):
            if run.info.end_time is None:
                there.update_run(copy.info.run_id, run.info.status)
            else:
                there.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)
            added = True
    return str(copy.info.run_id), added


def _copy(run: Any, here: mlflow.MlflowClient, there: mlflow.MlflowClient) -> Any:
    experiment = here.get_experiment(run.info.experiment_id)
    known = there.get_experiment_by_name(experiment.name)
    about = {
        key: value for key, value in experiment.tags.items() if key in ("mlflow.note.content", "mlflow.experimentKind")
    }
    place = known.experiment_id if known else there.create_experiment(experiment.name, tags=about)
    found = there.search_runs([place], f"tags.`{ORIGIN}` = '{run.info.run_id}'", max_results=1)
    if found:
        return there.get_run(found[0].info.run_id)
    return there.create_run(place, run.info.start_time, {ORIGIN: run.info.run_id}, run.info.run_name)


def _bring_values(run: Any, copy: Any, here: mlflow.MlflowClient, there: mlflow.MlflowClient) -> bool:
    """Parameters, tags, datasets, and every point of every metric at its own time."""
    target = copy.info.run_id
    params = [Param(key, value) for key, value in run.data.params.items() if key not in copy.data.params]
    tags = [RunTag(key, value) for key, value in run.data.tags.items() if copy.data.tags.get(key) != value]
    points = []
    for name in run.data.metrics:
        known = (
            {(point.step, point.timestamp) for point in there.get_metric_history(target, name)}
            if name in copy.data.metrics
            else set()
        )
        points += [p for p in here.get_metric_history(run.info.run_id, name) if (p.step, p.timestamp) not in known]
    for some in _batches(params, store.MOST_PARAMS):
        there.log_batch(target, params=some)
    for some in _batches(tags, store.MOST_PARAMS):
        there.log_batch(target, tags=some)
    for some in _batches(points, store.MOST_METRICS):
        there.log_batch(target, metrics=some)
    datasets = run.inputs.dataset_inputs if not copy.inputs.dataset_inputs else []
    if datasets:
        there.log_inputs(target, datasets)
    return bool(params or tags or points or datasets)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _bring_artifacts(run: Any, copy: Any, there: mlflow.MlflowClient) -> bool:
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=run.info.artifact_uri, tracking_uri=store.own()))
    known = dict(_listed(there, copy.info.run_id))
    added = False
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if known.get(name.as_posix()) != path.stat().st_size:
            parent = None if name.parent == Path() else name.parent.as_posix()
            there.log_artifact(copy.info.run_id, str(path), parent)
            added = True
    return added


def _listed(client: mlflow.MlflowClient, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from _listed(client, run_id, item.path)
        else:
            yield item.path, item.file_size


def _bring_models(run: Any, copy: Any, here: mlflow.MlflowClient, there: mlflow.MlflowClient) -> bool:
    """The run's logged models, told in their MLmodel files that they belong to the copy."""
    given = run.outputs.model_outputs if run.outputs else []
    if not given or (copy.outputs and copy.outputs.model_outputs):
        return False
    made = []
    for output in given:
        model = here.get_logged_model(output.model_id)
        new = there.create_logged_model(
            copy.info.experiment_id, model.name, copy.info.run_id, params=model.params, model_type=model.model_type
        )
        with TemporaryDirectory() as folder:
            source = mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location, tracking_uri=store.own())
            shutil.copytree(source, folder, dirs_exist_ok=True)
            about = Model.load(folder)
            about.run_id, about.model_id, about.artifact_path = copy.info.run_id, new.model_id, new.artifact_location
            about.save(str(Path(folder) / "MLmodel"))
            there.log_model_artifacts(new.model_id, folder)
        there.finalize_logged_model(new.model_id, "READY")
        made.append(LoggedModelOutput(new.model_id, output.step))
    there.log_outputs(copy.info.run_id, made)  # last, so that a delivery broken off before brings them again
    return True


def _bring_versions(run: Any, copy: Any, here: mlflow.MlflowClient, there: mlflow.MlflowClient) -> bool:
    """The registered version of the run's model, with its description and tags; aliases stay with the server."""
    given = here.search_model_versions(f"run_id = '{run.info.run_id}'")
    known = there.search_model_versions(f"run_id = '{copy.info.run_id}'")
    models = there.get_run(copy.info.run_id).outputs.model_outputs
    if not given or not models:
        return False
    version = given[0]
    if not known:
        with warnings.catch_warnings(), suppress(RestException):  # it is there already
            warnings.simplefilter("ignore", FutureWarning)
            there.create_registered_model(version.name, description=here.get_registered_model(version.name).description)
        there.create_model_version(
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
            there.set_model_version_tag(version.name, known[0].version, key, value)
    if known[0].description != version.description:
        there.update_model_version(version.name, known[0].version, version.description)
    return False


def hand_over(run_id: str) -> None:
    """Deliver a finished run, if there is a server; a server that fails costs a warning."""
    server = store.server()
    if server is None:
        return
    try:
        deliver(run_id, server)
    except (MlflowException, OSError) as error:
        warn(server, " ".join(str(error).split())[:200])


class Courier:
    """Delivers a run while it is being written, from a thread of its own: whoever writes it never waits."""

    def __init__(self, run_id: str, server: str) -> None:
        self.run_id, self.server = run_id, server
        self.news: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def call(self) -> None:
        """There is something new."""
        self.news.put(True)

    def close(self) -> None:
        """Bring the rest, but wait for `PATIENCE` seconds at most."""
        self.news.put(False)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            warn(self.server, "it answers too slowly")

    def _work(self) -> None:
        more = True
        while more:
            more = self.news.get()
            while more and not self.news.empty():  # several epochs at once, where the server is slow
                more = self.news.get()
            try:
                deliver(self.run_id, self.server, whole=False)
            except (MlflowException, OSError) as error:
                warn(self.server, " ".join(str(error).split())[:200])
                return


def warn(server: str, why: str) -> None:
    """What to tell when a delivery fails."""
    print(
        f"The tracking server {server} does not take this run now ({why}). It is safe in mlflow.db here; "
        "`car-or-truck sync` delivers it later.",
        flush=True,
    )
