"""The MLflow run of a training: its commit and its patch after a resume, and how it ends."""

from __future__ import annotations

import errno
import json
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import LoggedModelOutput
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from car_or_truck.cells.cell import Cell
from car_or_truck.cells.names import surroundings
from car_or_truck.tracking import processes, provenance, store, training, trials
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.history import METRICS
from helpers.cells import cell
from helpers.clones import git
from helpers.nets import PLAIN
from helpers.stores import Store

CHANGED = "learning_rate: 0.01  # uncommitted when the training started\n"


class Interrupted(KeyboardInterrupt):
    pass


@pytest.fixture
def repository(small_store: Store) -> Store:
    """A git repository with a store, and a change in params.yaml that is not committed."""
    (small_store.root / ".gitignore").write_text("mlflow.db*\nmlruns\n.dvc\n")
    (small_store.root / "params.yaml").write_text("learning_rate: 0.1\n")
    git(small_store.root, "init", "-q", "-b", "main")
    git(small_store.root, "add", ".")
    git(small_store.root, "commit", "-q", "-m", "start")
    (small_store.root / "params.yaml").write_text(CHANGED)
    return small_store


def checkpoint(store: Store) -> Checkpoint:
    """As a process reads it that starts, or goes on with, the training."""
    saved = Checkpoint(store.root / ".dvc" / "cell.npz")
    saved.read()
    return saved


def finish_epoch(saved: Checkpoint) -> None:
    """What `fit` does after each epoch."""
    state = saved.state
    state.epoch += 1
    state.rows.append({"epoch": state.epoch, **dict.fromkeys(METRICS, state.epoch / 10)})
    state.times.append(1000.0 + state.epoch)
    saved.write()


def train(saved: Checkpoint, epochs: int) -> None:
    """A training that the person interrupts after so many epochs."""
    with training.training_run(cell(), saved, {}):
        for _ in range(epochs):
            finish_epoch(saved)
        raise Interrupted


def trace(store: Store, run_id: str, name: str) -> Path:
    return Path(store.client.download_artifacts(run_id, f"trace/{name}", str(store.root / ".dvc")))


def test_what_a_run_itself_changes_does_not_make_its_commit_dirty(repository: Store) -> None:
    for name in ("dvc.lock", "reports/metrics.json"):
        (repository.root / name).parent.mkdir(exist_ok=True)
        (repository.root / name).write_text("of the last run")
        git(repository.root, "add", "-f", name)
    git(repository.root, "commit", "-q", "-a", "-m", "results")
    (repository.root / "dvc.lock").write_text("of this run")
    (repository.root / "reports/metrics.json").write_text("of this run")
    assert surroundings()["git.dirty"] == "false"
    (repository.root / "src").mkdir()
    (repository.root / "src/new.py").write_text("new code decides numbers too")
    assert surroundings()["git.dirty"] == "true"


@pytest.mark.parametrize("described", [True, False], ids=["in an epoch", "before its patch was kept"])
def test_a_training_resumed_after_a_commit_keeps_the_commit_and_the_patch_of_its_start(
    described: bool, repository: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, saved = git(repository.root, "rev-parse", "HEAD"), checkpoint(repository)

    def interrupt(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        if not described:
            patched.setattr(provenance, "log_source", interrupt)
        with pytest.raises(Interrupted):
            train(saved, 1)
    git(repository.root, "commit", "-q", "-a", "-m", "what was uncommitted")
    (repository.root / "later.txt").write_text("and something new")
    git(repository.root, "add", ".")
    git(repository.root, "commit", "-q", "-m", "another day")

    saved = checkpoint(repository)
    with training.training_run(cell(), saved, {"precision.reason": "of the second process"}):
        finish_epoch(saved)
    (run,) = repository.client.search_runs([repository.experiment])
    assert run.info.status == "FINISHED"
    assert run.data.tags["git.commit"] == run.data.tags["mlflow.source.git.commit"] == first
    assert run.data.tags["git.dirty"] == "true"
    clone = tmp_path / "clone"
    git(repository.root, "clone", "-q", ".", str(clone))
    git(clone, "checkout", "-q", run.data.tags["git.commit"])
    patch = trace(repository, run.info.run_id, provenance.CHANGES)
    git(clone, "apply", "--check", str(patch))
    git(clone, "apply", str(patch))
    assert (clone / "params.yaml").read_text() == CHANGED


def test_a_resumed_training_has_each_epoch_once_in_its_own_run(repository: Store) -> None:
    with pytest.raises(Interrupted):
        train(checkpoint(repository), 2)
    (run,) = repository.client.search_runs([repository.experiment])
    assert run.info.status == "KILLED"
    with pytest.raises(Interrupted):
        train(checkpoint(repository), 0)
    (resumed_run,) = repository.client.search_runs([repository.experiment])
    assert resumed_run.info.run_id == run.info.run_id
    for name in METRICS:
        points = repository.client.get_metric_history(run.info.run_id, name)
        assert [(point.step, point.timestamp, point.value) for point in points] == [
            (1, 1_001_000, 0.1),
            (2, 1_002_000, 0.2),
        ]


def test_a_finished_run_has_each_epoch_once_also_one_whose_write_failed(small_store: Store) -> None:
    saved = checkpoint(small_store)
    with training.training_run(cell(), saved, {}) as callbacks:
        for _ in range(3):
            finish_epoch(saved)
        for row in saved.state.rows[::2]:  # the second is lost
            callbacks[0].on_epoch_end(int(row["epoch"]) - 1, {name: row[name] for name in METRICS})
    (run,) = small_store.client.search_runs([small_store.experiment])
    for name in METRICS:
        points = small_store.client.get_metric_history(run.info.run_id, name)
        assert sorted((point.step, point.value) for point in points) == [(1, 0.1), (2, 0.2), (3, 0.3)]


@pytest.mark.parametrize("kind", ["training", "trial"])
def test_a_run_that_goes_on_is_at_no_moment_taken_for_abandoned(
    kind: str, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(checkpoint(small_store), 1)
    (run,) = small_store.client.search_runs([small_store.experiment])
    small_store.client.set_tag(run.info.run_id, processes.TAG, f"{platform.node()}:{2**31 - 1}:0.00")
    update = SqlAlchemyStore.update_run_info

    def update_while_another_command_connects(*arguments: Any, **changes: Any) -> Any:
        updated = update(*arguments, **changes)
        store._close_abandoned(small_store.experiment)
        return updated

    monkeypatch.setattr(SqlAlchemyStore, "update_run_info", update_while_another_command_connects)
    with (
        training.training_run(cell(), checkpoint(small_store), {})
        if kind == "training"
        else trials.trial_run("", 1, cell(), checkpoint(small_store))
    ):
        assert small_store.client.get_run(run.info.run_id).info.status == "RUNNING"


def test_a_training_killed_while_its_model_was_logged_goes_on_in_a_run_with_one_model(small_store: Store) -> None:
    client, saved = small_store.client, checkpoint(small_store)

    def log_half_a_model() -> None:
        with training.training_run(cell(), saved, {}):
            finish_epoch(saved)
            half = client.create_logged_model(small_store.experiment, "net", saved.state.run_id)
            client.log_outputs(saved.state.run_id, [LoggedModelOutput(half.model_id, 0)])  # MLflow's first step
            raise Interrupted

    with pytest.raises(Interrupted):
        log_half_a_model()
    with training.training_run(cell(), checkpoint(small_store), {}):
        pass
    new_run, killed_run = client.search_runs([small_store.experiment], order_by=["attributes.start_time DESC"])
    assert (new_run.info.status, killed_run.info.status) == ("FINISHED", "KILLED")
    assert client.get_run(new_run.info.run_id).outputs.model_outputs == []
    assert [point.step for point in client.get_metric_history(new_run.info.run_id, "val_loss")] == [1]


def test_the_trace_holds_the_whole_cell_also_where_a_value_is_null(repository: Store) -> None:
    base = {"application": "MobileNetV2", "weights": None}  # left out, `weights` would mean ImageNet's
    described = cell(recipe=PLAIN | {"blocks": [], "base": base})
    with training.training_run(described, checkpoint(repository), {}):
        pass
    (run,) = repository.client.search_runs([repository.experiment])
    text = trace(repository, run.info.run_id, provenance.CELL).read_text()
    assert json.loads(text)["recipe"]["base"]["weights"] is None
    assert Cell.model_validate_json(text) == described


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ZeroDivisionError, "FAILED"), (Interrupted, "KILLED")]
)
def test_a_run_ends_as_its_training_does(error: type[BaseException] | None, status: str, small_store: Store) -> None:
    saved = checkpoint(small_store)
    expected: AbstractContextManager[Any] = pytest.raises(error) if error else nullcontext()
    with expected, training.training_run(cell(), saved, {}):
        if error:
            raise error
    assert mlflow.active_run() is None
    (run,) = small_store.client.search_runs([small_store.experiment])
    assert run.info.status == status


def test_a_run_whose_training_cannot_begin_has_failed(small_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = checkpoint(small_store)

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved, "write", full)
    with pytest.raises(OSError, match="No space"), training.training_run(cell(), saved, {}):
        pass
    (run,) = small_store.client.search_runs([small_store.experiment])
    assert run.info.status == "FAILED"
    assert mlflow.active_run() is None
