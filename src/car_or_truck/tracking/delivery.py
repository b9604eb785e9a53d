"""Runs copied from the project's own MLflow store to a tracking server.

The copy's tag `delivered.from` names the original, so that an interrupted delivery is continued and
a repeated one adds nothing.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import Any

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE, MLFLOW_USER

from car_or_truck.errors import mask_passwords, summarize
from car_or_truck.tracking import copies, permissions, store, version_copies

ORIGIN = f"{copies.MARK}from"
REFUSED = f"{copies.MARK}refused"  # a run's tag: the server that permitted no delivery, so that this is said once
DENIED = "you may not write to it: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ask who runs it"
PATIENCE = 30  # seconds that the end of a training waits for a slow server


def deliver(run_id: str, server: str, whole: bool = True) -> tuple[str, bool]:
    """Copy what the server lacks of a run; returns (the copy's run id, whether anything was lacking).

    `whole`: with artifacts, model and version; else the values alone. Raises MlflowException or OSError, or Failure
    where the server has the experiment in its trash.
    """
    local, remote = mlflow.MlflowClient(store.own()), mlflow.MlflowClient(server)
    run = local.get_run(run_id)
    with store.one_at_a_time("delivery"):
        copy = _copy(run, local, remote)
        if copy.info.run_id == run_id:  # the server serves this very store, as `ui` does
            return run_id, False
        added = copies.bring_values(run, copy, local, remote)
        if whole:
            added |= copies.bring_artifacts(run, copy, local, remote)
            added |= copies.bring_model(run, copy, local, remote)
            added |= version_copies.bring_version(run, copy, local, remote)
        if (run.info.status, run.info.end_time) != (copy.info.status, copy.info.end_time):
            if run.info.end_time is None:
                remote.update_run(copy.info.run_id, run.info.status)
            else:
                remote.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)
            added = True
    if REFUSED in run.data.tags:
        local.delete_tag(run_id, REFUSED)
    return str(copy.info.run_id), added


def _copy(run: Any, local: mlflow.MlflowClient, remote: mlflow.MlflowClient) -> Any:
    experiment = local.get_experiment(run.info.experiment_id)
    remote_experiment = remote.get_experiment_by_name(experiment.name)
    if remote_experiment:
        store.refuse_trashed(remote_experiment, remote.tracking_uri)
    place = remote_experiment.experiment_id if remote_experiment else _create_experiment(experiment, remote)
    for about in (f"tags.`{ORIGIN}`", "attributes.run_id"):
        delivered = remote.search_runs([place], f"{about} = '{run.info.run_id}'", max_results=1)
        if delivered:
            return remote.get_run(delivered[0].info.run_id)
    tags = {ORIGIN: run.info.run_id, MLFLOW_USER: run.info.user_id}  # MLflow takes the run's user from that tag
    return remote.create_run(place, run.info.start_time, tags, run.info.run_name)


def _create_experiment(experiment: Any, remote: mlflow.MlflowClient) -> str:
    """The experiment on the server, with its note and saved views; links to those name the experiment's id there."""
    place = store.create_experiment(remote, experiment.name, experiment.tags)
    own, theirs = (f"#/experiments/{number}/" for number in (experiment.experiment_id, place))
    note = experiment.tags.get(MLFLOW_RUN_NOTE, "")
    if own in note and own != theirs:
        with copies.optional(remote, "tags of experiments", "its page there has links that lead nowhere"):
            remote.set_experiment_tag(place, MLFLOW_RUN_NOTE, note.replace(own, theirs))
    return place


def was_removed(run: Any, server: str) -> bool:
    """Whether the run was delivered, and all its copies are in the server's trash now."""
    remote = mlflow.MlflowClient(server)
    remote_experiment = remote.get_experiment_by_name(
        mlflow.MlflowClient(store.own()).get_experiment(run.info.experiment_id).name
    )
    about = f"tags.`{ORIGIN}` = '{run.info.run_id}'"
    copied = remote.search_runs([remote_experiment.experiment_id], about, ViewType.ALL) if remote_experiment else []
    return bool(copied) and all(copy.info.lifecycle_stage == "deleted" for copy in copied)


def close_copy(run_id: str, experiment: str, server: str) -> None:
    """Mark the copy of a run as KILLED on the server: its worker died, and another one goes on in a run of its own."""
    remote = mlflow.MlflowClient(server)
    with suppress(MlflowException, OSError):  # the delivery of the new run says what is wrong with the server
        remote_experiment = remote.get_experiment_by_name(experiment)
        about = f"tags.`{ORIGIN}` = '{run_id}' and attributes.status = 'RUNNING'"
        for copy in remote.search_runs([remote_experiment.experiment_id], about) if remote_experiment else ():
            remote.set_terminated(copy.info.run_id, "KILLED")


def hand_over(run_id: str) -> None:
    """Deliver a finished run, if there is a server; warn if that fails."""
    server = store.server()
    if server is None:
        return
    try:
        deliver(run_id, server)
    except Exception as error:  # whatever keeps a server from it: nothing is lost
        warn(run_id, server, error)


class Courier:
    """Delivers a run while it is being written, from a thread of its own, so that the training never waits."""

    def __init__(self, run_id: str, server: str) -> None:
        self.run_id, self.server, self.failed = run_id, server, False
        self.news: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def call(self) -> None:
        """Deliver what is new."""
        self.news.put(True)

    def close(self) -> None:
        """Deliver the rest; wait at most PATIENCE seconds for it, and not for a server that failed before."""
        self.news.put(False)
        self.thread.join(0 if self.failed else PATIENCE)
        if self.thread.is_alive() and not self.failed:
            warn(self.run_id, self.server, TimeoutError("too slow"))

    def _work(self) -> None:
        more = True
        while more:
            more = self.news.get()
            while more and not self.news.empty():  # a slow server gets several epochs at once
                more = self.news.get()
            if self.failed and not more:
                return
            try:
                deliver(self.run_id, self.server, whole=False)
                self.failed = False
            except Exception as error:
                if not self.failed:  # it may be back at the next epoch
                    warn(self.run_id, self.server, error)
                self.failed = True


def warn(run_id: str, server: str, error: Exception) -> None:
    """Say that a delivery failed, and that nothing is lost; that a person may not write is said once a run."""
    why = summarize(error, 200)
    where = mask_passwords(server)
    if permissions.is_denied(error):
        local = mlflow.MlflowClient(store.own())
        if local.get_run(run_id).data.tags.get(REFUSED) == where:
            return
        local.set_tag(run_id, REFUSED, where)
        why = DENIED
    print(
        f"The tracking server {where} did not take this run ({why}). It is safe in mlflow.db here; "
        "`car-or-truck sync` delivers it later.",
        flush=True,
    )
