from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest

from car_or_truck.train import batches, runtime
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.history import METRICS
from helpers.clones import Project
from helpers.nets import EVERYTHING, VARIANTS, recipe, setup, split
from helpers.processes import EPOCHS, await_epochs, await_line, longer, start


class BrokenOff(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("variant", ["exercise", "sprint", "summit", "vgg16", "mobilenet"])  # the rest are alike
def test_a_variant_gives_the_same_bytes_twice(variant: str, precision: str, tmp_path: Path) -> None:
    from car_or_truck.train import convnet
    from car_or_truck.train.fit import save

    changes: dict[str, Any] = {"epochs": 2}
    base = VARIANTS[variant].base
    if base:
        changes["base"] = base.model_copy(update={"weights": None})
    chosen = VARIANTS[variant].model_copy(update=changes)
    runs = [trained(chosen, tmp_path / f"{place}.npz", precision) for place in range(2)]
    assert runs[0][1].equals(runs[1][1])
    for place, (net, _, _) in enumerate(runs):
        save(convnet.inference_copy(net), tmp_path / f"{place}.keras")
    assert (tmp_path / "0.keras").read_bytes() == (tmp_path / "1.keras").read_bytes()


def trained(chosen: Any, path: Path, precision: str, break_off_after: int | None = None) -> tuple[Any, Any, int]:
    """A training as a process of its own would do it, broken off after an epoch if asked for."""
    import keras

    from car_or_truck.train import convnet
    from car_or_truck.train.fit import Data, fit

    class Breaker(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch + 1 == break_off_after:
                raise BrokenOff

    runtime.start(1, precision)
    net = convnet.build(chosen, 32)
    saved = Checkpoint(path)
    saved.read()
    try:
        data = Data(split(24, 32), split(12, 32, "valid"))
        history, kept_epoch = fit(net, setup(chosen, precision=precision), data, saved, [Breaker()])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    return net, history, kept_epoch


@pytest.mark.parametrize(
    ("changes", "precision"),
    [
        ({"head": {"units": 6, "dropout": 0.5}}, "float32"),
        pytest.param(EVERYTHING, "float32", marks=pytest.mark.slow),
        pytest.param(EVERYTHING, "mixed_bfloat16", marks=pytest.mark.slow),
        ({"early_stopping": {"patience": 2}, "optimizer": {"name": "sgd", "learning_rate": 1.0}}, "float32"),
    ],
)
def test_a_training_that_was_broken_off_ends_as_if_it_had_not_been(
    changes: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    chosen = recipe(**{"epochs": 5, **changes})
    whole = trained(chosen, tmp_path / "whole.npz", precision)
    for epoch in (1, 2):
        with pytest.raises(BrokenOff):
            trained(chosen, tmp_path / "broken.npz", precision, break_off_after=epoch)
    resumed = trained(chosen, tmp_path / "broken.npz", precision)
    assert resumed[1].equals(whole[1])
    assert resumed[2] == whole[2]
    dataset = batches.in_order(split(12, 32, "valid"), 8)
    assert np.array_equal(resumed[0].predict(dataset, verbose=0), whole[0].predict(dataset, verbose=0))


@pytest.fixture(scope="module")
def finished_training(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, bytes]:
    """The history of a training, and its checkpoint."""
    path = tmp_path_factory.mktemp("finished") / "cell.npz"
    _, history, _ = trained(recipe(), path, "float32")
    return history, path.read_bytes()


def test_a_finished_training_is_not_trained_again(
    finished_training: tuple[pd.DataFrame, bytes], tmp_path: Path
) -> None:
    history, content = finished_training
    (tmp_path / "cell.npz").write_bytes(content)
    result = trained(recipe(), tmp_path / "cell.npz", "float32", break_off_after=1)  # no epoch runs
    assert result[1].equals(history)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.98])
def test_a_damaged_checkpoint_is_set_aside_and_named(
    keep: float, finished_training: tuple[pd.DataFrame, bytes], tmp_path: Path, capsys: Any
) -> None:
    (_, content), path = finished_training, tmp_path / "cell.npz"
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    saved = Checkpoint(path)
    saved.read()
    assert "it was set aside as cell.damaged." in capsys.readouterr().out
    assert path.with_suffix(".damaged").exists()
    assert saved.state.epoch == 0


def test_a_training_whose_checkpoint_is_damaged_begins_anew(
    finished_training: tuple[pd.DataFrame, bytes], tmp_path: Path
) -> None:
    history, content = finished_training
    (tmp_path / "cell.npz").write_bytes(content[:-100])
    assert trained(recipe(), tmp_path / "cell.npz", "float32")[1].equals(history)


@pytest.mark.slow
def test_a_killed_process_goes_on_in_its_own_run_and_ends_with_the_same_bytes(project: Project) -> None:
    project.edit(longer)
    folder = project.root / "models/tutorial/31415"
    project.run("car-or-truck", "train", "tutorial", "31415")
    untroubled = {path.name: path.read_bytes() for path in folder.iterdir()}

    chance = random.Random(31415)
    for _ in range(3):
        process = start(project)
        assert process.stdout
        with process.stdout:
            await_epochs(process, chance.randint(1, 4))
            signal.sigtimedwait([signal.SIGUSR1], chance.random() / 5)  # and a moment more
            process.kill()
            process.wait()
    output = project.run("car-or-truck", "train", "tutorial", "31415")
    assert "tutorial-31415 continues after epoch" in output
    assert "MLflow run tutorial-31415: its process is gone, so it is marked KILLED." in output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == untroubled

    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("car-or-truck-rendered")
    runs = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.params.get("recipe.epochs") == str(EPOCHS)
    ]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]  # the untroubled one, and this one
    history = pd.read_csv(folder / "history.csv")
    for name in METRICS:
        points = client.get_metric_history(runs[0].info.run_id, name)
        assert sorted(point.step for point in points) == list(history["epoch"])  # each once
        assert {point.step: point.value for point in points} == dict(zip(history["epoch"], history[name], strict=True))
    assert not list((project.root / ".dvc/tmp/training").glob("*.npz"))


@pytest.mark.slow
def test_an_interrupted_training_says_how_to_go_on(project: Project) -> None:
    project.edit(longer)
    process = start(project)
    assert process.stdout
    with process.stdout:
        await_epochs(process, 1)
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
    assert process.wait() == 130
    assert f"of {EPOCHS}; `dvc repro` continues from there." in output
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("car-or-truck-rendered")
    assert len(client.search_runs([experiment.experiment_id], "attributes.status = 'KILLED'")) == 1


@pytest.mark.slow
def test_a_training_outlives_dvc_and_no_second_one_starts_beside_it(project: Project) -> None:
    project.edit(longer)
    command = ("dvc", "repro", "--single-item", "train@tutorial-31415")
    first = start(project, *command)
    assert first.stdout
    with first.stdout:
        await_epochs(first, 1)
        training = psutil.Process(first.pid).children(recursive=True)
        for process in training:
            process.suspend()  # it would end before another process has started
        first.kill()
        first.wait()
        second = start(project, *command)
        assert second.stdout
        with second.stdout:
            try:
                output = await_line(second, ".* is being trained by another process; waiting")
            finally:
                for process in training:
                    process.resume()
            output += second.stdout.read()
        assert second.wait() == 0, output
        first.stdout.read()
    assert "was trained by that other process" in output
    assert "  epoch " not in output
    assert len(pd.read_csv(project.root / "models/tutorial/31415/history.csv")) == EPOCHS
