"""`work`: train and evaluate models here, for whoever shares the DVC remote."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil

from car_or_truck import paths
from car_or_truck.cells.cell import cell_name, read_trained
from car_or_truck.cells.remote import CHECKPOINT_SECONDS, Remote, remove_checkpoint
from car_or_truck.errors import Failure, Stopped
from car_or_truck.git import git
from car_or_truck.lock import LOCK, locked_stages, prepared_md5, stages_of
from car_or_truck.params import Params

CODE = ("src", "dvc.yaml", "params.yaml", ".dvc/config")  # what the commit must hold as it is here
STALE = (
    "The commit's dvc.lock is not of the images that its code and parameters make, and workers would train on others. "
    "Run `dvc repro prepare && dvc push prepare`, and commit and push dvc.lock."
)


def work(params: Params, cells: Sequence[str], checkpoint_seconds: float) -> None:
    """Pull the images, run each cell's stages, and push what they wrote; what the remote holds is not run again.

    Raises Failure for an unknown cell, changes that are not committed, other images, or a remote that fails.
    """
    known_cells = {cell_name(*cell): cell for cell in params.cells}
    for cell in cells:
        if cell not in known_cells:
            raise Failure(
                f"{cell!r} is not one of the models of train.variants and train.seeds: {', '.join(known_cells)}."
            )
    commit, remote = committed(params), Remote()
    environment = {**os.environ, CHECKPOINT_SECONDS: str(checkpoint_seconds)}
    run_dvc("pull", "--run-cache", "prepare")
    try:
        run_dvc("repro", "--pull", "--allow-missing", "prepare")  # does nothing where the images are as the commit's
    except Failure:
        raise Failure(f"`dvc repro prepare` failed; its output is above. If no disk or network did: {STALE}") from None
    check_images()
    for cell in cells:
        with remote.holding(f"{commit[:12]}-{cell}") as waited:
            if waited:
                run_dvc("fetch", "--run-cache", "prepare")
            stages = [f"{stage}@{cell}" for stage in ("train", "evaluate")]
            run_dvc("repro", "--pull", "--single-item", *stages, environment=environment)
            run_dvc("push", "--run-cache", *stages)
            remove_checkpoint(remote, read_trained(*known_cells[cell])[0].fingerprint)


def committed(params: Params) -> str:
    """The current commit; a Failure when code or parameters differ from it."""
    commit = git("rev-parse", "HEAD")
    if commit is None:
        raise Failure(f"{paths.root()} has no git commit, by which workers elsewhere could find code and parameters.")
    changed = git("status", "--porcelain", "--", *CODE, params.data.exclude)
    if changed is None:
        raise Failure(f"data.exclude is {params.data.exclude}, outside of the repository: workers elsewhere lack it.")
    if changed:
        names = ", ".join(line[3:] for line in changed.splitlines()[:3])
        raise Failure(f"Not committed: {names}. Workers elsewhere see only commits: commit and push first.")
    return commit


def check_images() -> None:
    """Raise Failure when the prepared images here are not those of the commit's dvc.lock."""
    if prepared_md5(locked_stages()) != prepared_md5(stages_of(git("show", f"HEAD:./{LOCK}"))):
        raise Failure(STALE)


def run_dvc(*arguments: str, environment: dict[str, str] | None = None) -> None:
    """A DVC command, which waits while another one holds the workspace; a Failure when it fails."""
    code = run_to_the_end(["dvc", "--wait-for-lock", *arguments], env=environment)
    if code:
        raise Failure(f"`dvc {' '.join(arguments)}` fails with {code}; its output is above.")


def run_to_the_end(command: Sequence[str], **options: Any) -> int:
    """The exit code of a command. It is waited for after Ctrl-C too, where subprocess.run would kill it at once."""
    process = subprocess.Popen(command, **options)
    try:
        return process.wait()
    except KeyboardInterrupt as stop:
        if isinstance(stop, Stopped) and process.poll() is None:
            parent = psutil.Process(process.pid)
            for each in [*parent.children(recursive=True), parent]:
                with suppress(psutil.NoSuchProcess):  # it ended in this moment
                    each.send_signal(signal.SIGINT)
        process.wait()
        raise
