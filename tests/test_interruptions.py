"""Fetching and preparing, broken off for real: what a plain `dvc repro` makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.clones import Project, clone, digests, environment, interruptible

IMAGES = 100


@pytest.fixture(scope="module")
def untroubled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    project = fresh(tmp_path_factory.mktemp("untroubled") / "project")
    project.run("dvc", "repro", "prepare")
    return digests(project.root, "data")


def fresh(into: Path) -> Project:
    project = clone(into)
    project.edit(lambda tree: tree["data"]["rendered"].update(train=IMAGES, valid=IMAGES))
    return project


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("part", ["data/raw.part/train", "data/prepared.part/train/images.npy"])
def test_a_stage_that_was_broken_off_is_done_again(
    how: signal.Signals, part: str, untroubled: dict[str, str], tmp_path: Path
) -> None:
    project = fresh(tmp_path / "project")
    running = subprocess.Popen(
        ["dvc", "repro", "prepare"],
        cwd=project.root,
        env=environment(),
        start_new_session=True,
        preexec_fn=interruptible,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    waited_since = time.monotonic()
    while not (project.root / part).exists():
        assert running.poll() is None, "it ended before it could be broken off"
        assert time.monotonic() - waited_since < 300
        time.sleep(0.005)
    os.killpg(running.pid, how)
    running.wait(timeout=30)
    finished_folder = project.root / part.split("/")[0] / part.split("/")[1].removesuffix(".part")
    # Python drops an interrupt that reaches it inside a destructor: then the stage may have ended well.
    assert not finished_folder.exists() or how == signal.SIGINT
    project.run("dvc", "repro", "prepare")
    assert digests(project.root, "data") == untroubled
