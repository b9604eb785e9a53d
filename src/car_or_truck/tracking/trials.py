"""The MLflow runs of `tune`: one for a study, and nested in it one for each of its trials.

They lie in an experiment of their own, in the project's own store: trials are no models, and nothing
that looks for models finds them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell
from car_or_truck.errors import summarize
from car_or_truck.tracking import processes, runs, store
from car_or_truck.train.checkpoint import Checkpoint

STUDY = "study"  # the tag that names a run's study
OUTCOME = "outcome"  # the tag of a trial that was not finished: why
ABOUT = (
    "Searches by `car-or-truck tune`: one run a study, and nested in it one run a trial. val_loss and "
    "val_binary_accuracy are those of the fold, every fifth training image of each class, on which no trial trains; "
    "the validation set is not used."
)


class Pruned(Exception):
    """A trial that is not worth going on with."""


def experiment_name(cell: Cell) -> str:
    """The experiment of the searches on these images."""
    return f"{names.experiment_name(cell.stand_in)}-tuning"


def study_run(study: str, cell: Cell) -> str:
    """The run of a study, made if need be, and running from now on; returns its id."""
    experiment, client = store.connect(experiment_name(cell), ABOUT), mlflow.MlflowClient()
    # The study's own is older than its trials', however many there are.
    for run in client.search_runs([experiment], f"tags.{STUDY} = '{study}'", order_by=["attributes.start_time"]):
        if MLFLOW_PARENT_RUN_ID in run.data.tags:
            continue  # a trial
        _go_on(run.info.run_id)
        return str(run.info.run_id)
    run = client.create_run(experiment, tags=_tags(study, cell), run_name=study)
    client.log_batch(run.info.run_id, params=_parameters(cell))
    return str(run.info.run_id)


def end_study(run_id: str, status: str, winner: str) -> None:
    """End the study's run, with its winner as YAML if there is one."""
    client = mlflow.MlflowClient()
    if winner:
        client.log_text(run_id, winner, "winner.yaml")
    client.set_terminated(run_id, status)


def log_scores(run_id: str, scores: Mapping[str, float]) -> None:
    """Into the study's run: what its winner reached."""
    mlflow.MlflowClient().log_batch(
        run_id, [Metric(name, value, round(1000 * time.time()), 0) for name, value in scores.items()]
    )


@contextmanager
def trial_run(parent: str, number: int, cell: Cell, saved: Checkpoint) -> Iterator[None]:
    """A trial's run, or the one that its checkpoint names; it gets its epochs when the block ends.

    It ends as FINISHED, as FAILED when the block raises, or as KILLED where it was pruned or interrupted.
    """
    client, state = mlflow.MlflowClient(), saved.state
    if not runs.can_continue(state.run_id):
        above = client.get_run(parent)
        tags = {**_tags(above.data.tags[STUDY], cell), MLFLOW_PARENT_RUN_ID: parent, "trial": str(number)}
        run = client.create_run(above.info.experiment_id, tags=tags, run_name=f"trial-{number}")
        client.log_batch(run.info.run_id, params=_parameters(cell))
        state.run_id = run.info.run_id
        saved.write()
    run_id, status = str(state.run_id), "FINISHED"
    _go_on(run_id)
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt | Pruned) else "FAILED"
        client.set_tag(run_id, OUTCOME, summarize(error))
        raise
    finally:
        runs.log_epochs(run_id, state.rows, state.times)
        client.set_terminated(run_id, status)


def _go_on(run_id: str) -> None:
    client = mlflow.MlflowClient()
    # The tag first: a running run whose process is gone would be marked KILLED.
    client.set_tag(run_id, processes.TAG, processes.this_process())
    client.update_run(run_id, status="RUNNING")


def _tags(study: str, cell: Cell) -> dict[str, str]:
    """Those of a cell but `cell`: what is trained on a part of train is none."""
    tags = {key: value for key, value in names.tags(cell).items() if key != "cell"}
    return {**tags, STUDY: study, processes.TAG: processes.this_process()}


def _parameters(cell: Cell) -> list[Param]:
    return [Param(key, str(value)) for key, value in names.parameters(cell).items()]
