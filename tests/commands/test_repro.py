"""`repro -j`: models side by side in one workspace, as a serial `dvc repro` would leave them."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Metric
from rich.console import Console
from ruamel.yaml import YAML

from car_or_truck.commands.repro import Job, failed_line, progress_table
from helpers.clones import Project, clone, digests
from helpers.processes import start
from helpers.stores import runs

SETTINGS = {"variants": ["tutorial"], "seeds": [1, 2, 3], "batch_size": 16, "threads": 1}


def grid(tree: Any) -> None:
    tree["train"] |= SETTINGS


def source(project: Project) -> str:
    return str(project.root / "src")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = clone(tmp_path_factory.mktemp("serial") / "project")
    project.edit(grid)
    project.run("dvc", "repro", PYTHONPATH=source(project))
    return project


@pytest.mark.slow
def test_side_by_side_leaves_what_a_serial_run_leaves(serial: Project, tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    project.edit(grid)
    output = project.run("car-or-truck", "repro", "-j", "2", PYTHONPATH=source(project))
    assert "3 models to train or evaluate, 2 at a time" in output
    assert "up to date" in project.run("dvc", "status")
    assert digests(project.root) == digests(serial.root)
    assert stages(project) == stages(serial)
    ends = sorted(
        (run.info.start_time, run.info.end_time)
        for run in runs(mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}"))
    )
    assert len(ends) == 3
    assert any(next_start < end for (_, end), (next_start, _) in pairwise(ends))
    output = project.run("car-or-truck", "repro", "-j", "2", PYTHONPATH=source(project))
    assert "models to train" not in output


@pytest.mark.slow
def test_a_failed_model_is_named_and_the_others_are_finished(tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    project.edit(grid)
    project.edit(lambda tree: tree["train"].update(variants=["tutorial", "exercise"], seeds=[1]))
    project.edit(lambda tree: tree["variants"]["exercise"]["optimizer"].update(learning_rate=1e38))
    output = project.run("car-or-truck", "repro", "-j", "2", code=1, PYTHONPATH=source(project))
    assert "1 of 2 models failed; the others are done." in output
    assert "exercise-1: Training diverged in epoch 1" in output
    assert {path.parent.name for path in project.root.glob("models/*/*")} == {"tutorial"}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_goes_on_with_the_next_call(how: signal.Signals, serial: Project, tmp_path: Path) -> None:
    project = clone(tmp_path / "project")
    project.edit(grid)
    project.edit(lambda tree: tree["train"].update(seeds=[1, 2]))  # both are under way
    process = start(project, "car-or-truck", "repro", "-j", "2", PYTHONPATH=source(project))
    since = time.monotonic()
    while not list(project.root.glob(".dvc/tmp/training/*.npz")):
        assert process.poll() is None
        assert time.monotonic() - since < 300
        time.sleep(0.1)
    os.kill(process.pid, how)
    output, _ = process.communicate(timeout=120)
    if how != signal.SIGKILL:
        assert "Stopping. The next call continues" in output
        assert process.returncode == 130
        assert "Traceback" not in output
    project.run("car-or-truck", "repro", "-j", "2", PYTHONPATH=source(project))
    expected = {name: digest for name, digest in digests(serial.root).items() if "/tutorial/3/" not in name}
    assert digests(project.root) == expected


def stages(project: Project) -> Any:
    """What dvc.lock says of each stage, whose order is that in which they ended."""
    return YAML(typ="safe").load(project.root / "dvc.lock")["stages"]


def test_the_table_shows_what_runs_and_how_long_still() -> None:
    minutes = {1: 1, 2: 2, 3: 600, 4: 601}  # by epoch; it was stopped for a night
    history = [Metric("val_binary_accuracy", 0.75, 60_000 * minute, epoch) for epoch, minute in minutes.items()]
    jobs = [
        Job("tutorial-1", 12, "running", history=history),
        Job("tutorial-2", 12, "done"),
        Job("exercise-1", 50, "failed", "Training diverged in epoch 3"),
    ]
    console = Console(width=100, record=True, force_terminal=False)
    console.print(progress_table(jobs))
    text = console.export_text()
    lines = [line.split() for line in text.splitlines()]
    assert lines[1][:2] == ["exercise-1", "failed"]
    assert lines[2] == ["tutorial-1", "running", "4/12", "75.0%", "8", "min"]
    assert "1 failed, 1 running, 0 waiting, 1 done" in text


def test_a_job_that_is_interrupted_while_it_starts_is_stopped_all_the_same() -> None:
    job, stops = Job("tutorial-1", 12), []
    job.interrupt()
    job.runs(lambda: stops.append("stopped"))
    assert stops == ["stopped"]


def test_a_failure_is_told_by_the_line_before_dvcs_own(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("> car-or-truck train x 1\nTraining diverged.\nERROR: failed to reproduce 'train@x-1'\n")
    assert failed_line(log) == "Training diverged."
    log.write_text("")
    assert failed_line(log) == "no output"
