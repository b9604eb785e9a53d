"""Searches on small drawn images, in a project that has no validation set."""

from __future__ import annotations

import errno
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from ruamel.yaml import YAML

from car_or_truck import files, params, paths
from car_or_truck.commands import search, tune
from car_or_truck.compare.luck import Selection
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.train import batches
from car_or_truck.train.checkpoint import Checkpoint
from helpers.cells import dataset
from helpers.clones import ROOT, Project, copy
from helpers.nets import PLAIN, split
from helpers.processes import start
from helpers.stores import Store

SIDE, IMAGES, TRIALS = 16, 40, 4
OVER = ["optimizer.learning_rate=1e-3:1e-1:log", "head.dropout=0:0.5", "epochs=2:4", "shuffle=once|each_epoch"]
COMMAND = [
    "car-or-truck",
    "tune",
    "plain",
    "--trials",
    str(TRIALS),
    *(word for key in OVER for word in ("--over", key)),
]
EXPERIMENT = "car-or-truck-tuning"


def write_project(root: Path) -> None:
    """Parameters with one small variant, and prepared training images."""
    tree = YAML(typ="safe").load(ROOT / "params.yaml")
    tree["data"]["image_size"] = SIDE
    tree["train"] |= {"variants": ["plain"], "batch_size": 8, "precision": "float32"}
    tree["variants"] = {"plain": PLAIN}
    YAML().dump(tree, root / "params.yaml")
    part = split(IMAGES, SIDE)
    folder = root / paths.PREPARED / "train"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", part.images)
    np.save(folder / "labels.npy", part.labels)
    files.write_json(root / paths.DATASET, dataset(image_size=SIDE).model_dump(mode="json"))


@pytest.fixture
def project(small_store: Store) -> Project:
    write_project(small_store.root)
    return Project(small_store.root)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A project with a finished search."""
    store = Store(tmp_path_factory.mktemp("searched") / "project", empty_database)
    write_project(store.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store.root)
        tune.tune(params.load(), "plain", OVER, TRIALS, None)
        yield store.root


@pytest.fixture
def searched_folder(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(searched)
    mlflow.set_tracking_uri(f"sqlite:///{searched / 'mlflow.db'}")
    return searched


def study_runs(name: str) -> list[str]:
    """The MLflow runs of a study, without its trials'."""
    runs = mlflow.search_runs(search_all_experiments=True, filter_string=f"tags.study = '{name}'", output_format="list")
    return [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]


def study(root: Path) -> Any:
    import optuna

    storage = f"sqlite:///{root / '.dvc/tmp/tune/studies.db'}"
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)


def runs() -> list[Any]:
    """Those of the trials, by number."""
    client = mlflow.MlflowClient()
    all_runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    return sorted((run for run in all_runs if "trial" in run.data.tags), key=lambda run: int(run.data.tags["trial"]))


def winner(output: str) -> str:
    return output[output.index("  # Trial") :]


def test_every_fifth_image_of_each_class_is_held_out() -> None:
    labels = np.array([0] * 23 + [1] * 11, np.uint8)
    train, held = search.fold(batches.Split(np.arange(34)[:, None], labels))
    assert held.images[:, 0].tolist() == [0, 5, 10, 15, 20, 23, 28, 33]
    assert sorted([*held.images[:, 0], *train.images[:, 0]]) == list(range(34))
    assert abs(held.labels.mean() - train.labels.mean()) < 0.1


def test_a_class_of_one_image_is_too_small_for_a_fold() -> None:
    with pytest.raises(Failure, match="two images of each class"):
        search.fold(batches.Split(np.zeros((4, 1)), np.array([0, 0, 0, 1], np.uint8)))


def test_values_come_out_of_the_ranges_after_the_variant_as_it_is(searched_folder: Path) -> None:
    first, *others = study(searched_folder).trials
    assert len(others) == TRIALS - 1
    assert first.params == {
        "optimizer.learning_rate": 0.003, "head.dropout": 0.0, "epochs": 2, "shuffle": "once",
    }  # fmt: skip
    recipes = [run.data.params for run in runs()]
    assert float(recipes[0]["recipe.optimizer.learning_rate"]) == 0.003
    assert len({recipe["recipe.optimizer.learning_rate"] for recipe in recipes}) == TRIALS
    for recipe in recipes[1:]:
        rate = recipe["recipe.optimizer.learning_rate"]
        assert 1e-3 <= float(rate) <= 1e-1
        assert len(rate.strip("0.").partition("e")[0].replace(".", "")) <= 3  # digits
        assert 0 <= float(recipe["recipe.head.dropout"]) <= 0.5
        assert recipe["recipe.epochs"] in {"2", "3", "4"}


@pytest.mark.usefixtures("project")
def test_a_long_trial_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(search, "SILENCE", 0)
    tune.tune(params.load(), "plain", ["head.dropout=0:0.5"], 1, None)
    output = capsys.readouterr().err
    assert re.search(
        r"^trial 0: epoch 1 of 2, \d+\.\d%; \d+ s left of it\ntrial 0: epoch 2 of 2, ", output, re.MULTILINE
    )


def test_trials_are_runs_nested_in_their_studys(searched_folder: Path) -> None:
    trial_runs = runs()
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in trial_runs}
    assert mlflow.get_run(parent).info.status == "FINISHED"
    assert mlflow.get_run(parent).data.metrics["trials"] == TRIALS
    for run, trial in zip(trial_runs, study(searched_folder).trials, strict=True):
        curve = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_binary_accuracy")
        assert {point.step: point.value for point in curve} == trial.intermediate_values
        assert run.info.status == ("FINISHED" if trial.state.name == "COMPLETE" else "KILLED")
        assert "cell" not in run.data.tags  # by which models are found


def test_a_search_that_is_done_prints_its_winner_again_and_trains_nothing(
    searched_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "fit", None)
    experiment_id, client = runs()[0].info.experiment_id, mlflow.MlflowClient()
    assert "one run a trial" in client.get_experiment(experiment_id).tags["mlflow.note.content"]
    client.set_experiment_tag(experiment_id, "mlflow.note.content", "A person's note.")
    tune.tune(params.load(), "plain", OVER, TRIALS, None)
    assert client.get_experiment(experiment_id).tags["mlflow.note.content"] == "A person's note."
    captured = capsys.readouterr()
    assert captured.out.startswith("  # Trial")
    assert f"trials so far: {TRIALS}. 31 images of train to train on, 9 held out." in captured.err


def test_the_winner_can_be_pasted_into_params(
    searched_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = params.load()
    with pytest.MonkeyPatch.context() as patch:  # so that the last trial wins
        patch.setattr(tune, "select_best", lambda correct: Selection(list(correct)[-1], len(correct), 0.9, 0.8))
        tune.tune(loaded, "plain", OVER, TRIALS, None)
    output = capsys.readouterr().out
    assert "  # Corrected for having been chosen: 80.0%.\n" in output
    text = (searched_folder / "params.yaml").read_text()
    assert text.rstrip().splitlines()[-1].startswith("    ")  # in the variants
    (tmp_path / "params.yaml").write_text(text + output)
    pasted = params.load(tmp_path / "params.yaml")
    tuned = pasted.variants["plain-tuned"]
    assert tuned != loaded.variants["plain"]
    assert tuned.optimizer.name == "adam"
    assert pasted.variants["plain"] == loaded.variants["plain"]


@pytest.mark.usefixtures("project")
def test_more_trials_add_to_a_study_and_another_range_or_seed_begins_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "_train", lambda *_: np.array([True, False]))
    studies = []
    for over, trials, seed in (
        (OVER[:1], 1, 7), (OVER[:1], 2, 7), (OVER[:1], 1, 8), (["optimizer.learning_rate=1e-3:1e-2:log"], 1, 7),
    ):  # fmt: skip
        tune.tune(params.load(), "plain", over, trials, seed)
        studies += re.findall(r"^Study (\S+), trials so far: (\d+)\.", capsys.readouterr().err, re.MULTILINE)
    names, counts = zip(*studies, strict=True)
    assert counts == ("0", "1", "0", "0")
    assert names[0] == names[1]
    assert len(set(names)) == 3

    client = mlflow.MlflowClient()
    (first,) = study_runs(names[0])
    client.set_tag(first, "mlflow.runName", "A name that a person gave it")
    Path(".dvc/tmp/tune/studies.db").unlink()
    leftover = Path(f".dvc/tmp/tune/{names[0]}-5.npz")  # of a trial of the study that was lost
    leftover.touch()
    tune.tune(params.load(), "plain", OVER[:1], 1, 7)
    assert study_runs(names[0]) == [first]
    assert not leftover.exists()


def test_a_trial_that_diverges_is_told_as_pruned_and_the_search_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverging(_: Any, trial: Any, *others: Any) -> Any:
        if trial.number == 1:
            raise Failure("Training diverged in epoch 1")
        return np.array([True, False])

    monkeypatch.setattr(search, "_train", diverging)
    tune.tune(params.load(), "plain", OVER[:1], 3, 7)
    assert [trial.state.name for trial in study(project.root).trials][:2] == ["COMPLETE", "PRUNED"]
    assert [run.info.status for run in runs()][1] == "FAILED"
    captured = capsys.readouterr()
    assert ": Training diverged in epoch 1; best " in captured.err
    assert "Trial" in captured.out


@pytest.mark.parametrize(("longest", "half"), [(2, 1), (3, 2), (6, 3), (7, 4), (21, 11)])
def test_trials_are_pruned_half_way_alone(longest: int, half: int) -> None:
    import optuna

    study = optuna.create_study(direction="maximize", pruner=tune.pruner(longest))
    pruned = []
    for worse in range(60):
        trial = study.ask()
        for epoch in range(1, longest):
            trial.report(-worse, epoch)
            if trial.should_prune():
                pruned.append(epoch)
                break
        study.tell(trial, -worse)
    assert set(pruned) == {half}
    assert len(pruned) < 50


@pytest.mark.parametrize("keep", ["last", "best"])
def test_an_epoch_that_was_chosen_on_the_fold_makes_the_score_optimistic(
    keep: str, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "_train", lambda *_: np.arange(50) < 30)
    project.edit(lambda tree: tree["variants"]["plain"].update(keep=keep))
    tune.tune(params.load(), "plain", ["head.dropout=0:0.5"], 1, None)
    assert ("all this is optimistically biased" in capsys.readouterr().out) == (keep == "best")


def test_a_trial_that_is_pruned_is_no_candidate(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import optuna

    monkeypatch.setattr(optuna.Trial, "should_prune", lambda _: True)
    tune.tune(params.load(), "plain", OVER[:1], 2, None)
    first, pruned = study(project.root).trials
    assert (first.state.name, pruned.state.name) == ("COMPLETE", "PRUNED")  # the variant as it is always ends
    assert (len(first.intermediate_values), len(pruned.intermediate_values)) == (2, 1)
    assert [run.info.status for run in runs()] == ["FINISHED", "KILLED"]
    captured = capsys.readouterr()
    assert re.search(r"^trial 1: .*: pruned after epoch 1 at \d+\.\d%; best ", captured.err, re.MULTILINE)
    assert "  # Trial 0 of 2, 1 of them pruned: " in captured.out
    assert "  # No trial is better than plain as it is.\n" in captured.out
    assert "plain-tuned" not in captured.out  # there is nothing to paste


@pytest.mark.parametrize("better", [1, 20])
def test_how_far_the_winner_leads_is_said_with_its_interval(
    better: int, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = iter([np.arange(50) < 30, np.arange(50) < 30 + better])
    monkeypatch.setattr(search, "_train", lambda *_: next(right))
    tune.tune(params.load(), "plain", OVER[:1], 2, None)
    output = capsys.readouterr().out
    low, high = map(float, re.findall(r"leads plain as it is by (-?[\d.]+) to (-?[\d.]+) points \(95% CI\)", output)[0])
    assert low <= 2 * better <= high  # points of 50 images
    assert (low > 0) == (better == 20)


def test_a_base_without_its_weights_is_an_error_before_any_trial(project: Project) -> None:
    weights = project.root / "net.weights.h5"
    weights.write_text("no weights")
    base = {"application": "MobileNetV2", "weights": str(weights), "sha256": files.sha256(weights)}
    project.edit(lambda tree: tree["variants"]["plain"].update(base=base, blocks=[]))
    with pytest.raises(Failure, match=r"net\.weights\.h5"):
        tune.tune(params.load(), "plain", OVER[:1], 3, None)
    assert not (project.root / ".dvc/tmp/tune/studies.db").exists()


def test_a_trial_that_cannot_be_trained_is_not_tried_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_train", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tune.tune(params.load(), "plain", OVER[:1], 3, None)
    assert [trial.state.name for trial in study(project.root).trials] == ["FAIL"]
    monkeypatch.setattr(search, "_train", lambda *_: np.array([True, False]))
    tune.tune(params.load(), "plain", OVER[:1], 2, None)
    assert [trial.state.name for trial in study(project.root).trials] == ["FAIL", "COMPLETE"]


def test_a_trial_that_a_full_disk_stopped_goes_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(search, "_train", full)
    with pytest.raises(OSError, match="No space left"):
        tune.tune(params.load(), "plain", OVER[:1], 1, None)
    monkeypatch.setattr(search, "_train", lambda *_: np.array([True, False]))
    tune.tune(params.load(), "plain", OVER[:1], 1, None)
    assert [trial.state.name for trial in study(project.root).trials] == ["COMPLETE"]


def test_without_optuna_it_says_how_to_install_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(Failure, match=r"Optuna is not installed: `pip install -e '\.\[tune\]'`\.$"):
        tune.tune(params.load(), "plain", OVER, TRIALS, None)


def test_without_prepared_images_it_says_how_to_prepare_them(project: Project) -> None:
    (project.root / paths.DATASET).unlink()
    with pytest.raises(Failure, match="Run `dvc repro prepare`"):
        tune.tune(params.load(), "plain", OVER, TRIALS, None)


def test_a_damaged_study_is_named_with_the_way_out(project: Project) -> None:
    (paths.scratch("tune") / "studies.db").write_text("not a database " * 100)
    with pytest.raises(Failure, match=r"studies\.db cannot be used .* Move it away"):
        tune.tune(params.load(), "plain", OVER, TRIALS, None)


@pytest.mark.usefixtures("project")
def test_a_database_that_is_whole_but_in_use_is_not_to_be_moved_away(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    def locked(**_: Any) -> None:
        raise optuna.exceptions.StorageInternalError("An exception is raised during the commit.") from (
            sqlite3.OperationalError("database is locked")
        )

    monkeypatch.setattr(optuna, "create_study", locked)
    with pytest.raises(Failure, match=r"\(database is locked\)\. Another process writes to it: try again\.$"):
        tune.tune(params.load(), "plain", OVER, TRIALS, None)


def await_trial(project: Project, process: subprocess.Popen[str]) -> int:
    """Wait until a trial other than the first has finished some epochs; returns its number."""
    waited_since = time.monotonic()
    while process.poll() is None and time.monotonic() - waited_since < 300:
        for path in (project.root / ".dvc/tmp/tune").glob("*-[1-9].npz"):
            saved = Checkpoint(path)
            saved.read()
            if saved.state.epoch >= 2:
                return int(path.stem[-1])
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[0])


def longer(project: Project) -> Params:
    project.edit(lambda tree: tree["variants"]["plain"].update(epochs=40))
    return params.load()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_search_keeps_its_trials_and_ends_like_an_undisturbed_one(
    how: signal.Signals, project: Project, tmp_path: Path
) -> None:
    command = ["car-or-truck", "tune", "plain", "--trials", str(TRIALS), "--over", OVER[0]]
    longer(project)
    undisturbed = copy(project, tmp_path / "undisturbed")
    process = start(project, *command)
    number = await_trial(project, process)
    process.send_signal(how)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == (-how if how == signal.SIGKILL else 130)
    assert how == signal.SIGKILL or "The same command continues where the trial is." in output
    second_output = project.run(*command)
    assert f"trials so far: {number}." in second_output
    assert f"trial {number} continues after epoch " in second_output
    assert [trial.number for trial in study(project.root).trials] == list(range(TRIALS))
    assert len(runs()) == TRIALS  # the broken one went on in its run
    assert not list((project.root / ".dvc/tmp/tune").glob("*.npz"))
    assert winner(second_output) == winner(undisturbed.run(*command))


@pytest.mark.slow
def test_two_processes_share_a_study(project: Project) -> None:
    longer(project)
    processes = [start(project, *COMMAND) for _ in range(2)]
    output = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], output
    trials = study(project.root).trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert all(trial.state.is_finished() for trial in trials)
    assert all("\ntrial " in text for text in output)
    assert sum(text.count("\ntrial ") for text in output) == TRIALS
