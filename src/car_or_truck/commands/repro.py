"""`repro -j N`: `dvc repro` with the models trained side by side, on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import IO, Any

from mlflow.entities import Metric
from rich.console import Console
from rich.live import Live
from rich.table import Table

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import cell_name, read_dataset
from car_or_truck.cells.times import duration
from car_or_truck.commands.work import run_dvc
from car_or_truck.errors import Failure, summarize
from car_or_truck.params import Params
from car_or_truck.tracking.live import LiveRuns

SHOWN = 30  # lines of the live table


@dataclass
class Job:
    """A model to train and evaluate, and how far it is."""

    cell: str
    epochs: int
    state: str = "waiting"  # running | done | failed
    note: str = ""
    history: list[Metric] = field(default_factory=list)  # validation accuracy by epoch
    stop: Callable[[], Any] | None = None  # while it runs
    stopped: bool = False

    def runs(self, stop: Callable[[], Any]) -> None:
        """Note how to stop what has just been started, and do it if a person interrupted that start."""
        self.stop = stop
        if self.stopped:
            self.interrupt()

    def interrupt(self) -> None:
        """Stop it, now or as soon as it runs."""
        self.stopped = True
        if self.stop:
            with suppress(ProcessLookupError):  # it ended in this moment
                self.stop()


def repro(params: Params, most: int, console: Console) -> None:
    """`dvc repro`, `most` models at a time. Raises Failure when some fail; the others are finished first."""
    with (paths.scratch("repro") / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("Another `car-or-truck repro`, or a model that a killed one left, is running here; waiting.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        run_dvc("repro", "prepare")
        # The children hold the lock too: a repro that is killed leaves them running.
        run_side_by_side(stale_jobs(params), partial(_run_here, lock=lock), most, console)
        run_dvc("repro")


def stale_jobs(params: Params) -> list[Job]:
    """The models that `dvc repro` would train or evaluate, in the order of params.yaml."""
    result = subprocess.run(["dvc", "--wait-for-lock", "status", "--json"], stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise Failure("`dvc status` fails; its output is above.")
    stale = {stage.rpartition(":")[2] for stage in json.loads(result.stdout)}
    cells = [(cell_name(variant, seed), params.variants[variant].epochs) for variant, seed in params.cells]
    return [Job(name, epochs) for name, epochs in cells if stale & {f"train@{name}", f"evaluate@{name}"}]


def run_side_by_side(jobs: Sequence[Job], run: Callable[[Job], None], most: int, console: Console) -> None:
    """Run the jobs, at most so many at a time, under a live table. Raises Failure at the end when some failed."""
    if not jobs:
        return
    trainings = LiveRuns(names.experiment_name(read_dataset().stand_in))
    at_a_time = f", {most} at a time" if most < len(jobs) else ""
    console.print(f"{len(jobs)} model{'s' * (len(jobs) > 1)} to train or evaluate{at_a_time}.")
    pool = ThreadPoolExecutor(most)
    futures: dict[Future[None], Job] = {pool.submit(run, job): job for job in jobs}
    waiting = set(futures)
    try:
        with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
            while waiting:
                done, waiting = wait(waiting, timeout=1)
                for future in done:
                    job, error = futures[future], future.exception()
                    job.state, job.stop = "failed" if error else "done", None
                    job.note = summarize(error, 600) if error else job.note
                    if not console.is_terminal:
                        console.print(f"{job.cell}: {job.state} {job.note}".rstrip())
                if console.is_terminal:
                    running = trainings.accuracies()
                    for job in jobs:
                        job.history = running.get(job.cell, job.history)
                    live.update(progress_table(jobs), refresh=True)
    except KeyboardInterrupt:
        console.print("Stopping. The next call continues where each model is.")
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for job in jobs:  # none is left but after an interrupt
            job.interrupt()
        pool.shutdown()
    failed = [f"{job.cell}: {job.note}" for job in jobs if job.state == "failed"]
    if failed:
        raise Failure("\n".join([f"{len(failed)} of {len(jobs)} models failed; the others are done.", *failed[:5]]))


def _run_here(job: Job, lock: IO[str]) -> None:
    """Train and evaluate a model in this workspace."""
    log = paths.scratch("repro") / f"{job.cell}.txt"
    stages = [f"{stage}@{job.cell}" for stage in ("train", "evaluate")]
    job.state = "running"
    with log.open("wb") as output:
        command = ["dvc", "--wait-for-lock", "repro", "--single-item", *stages]
        process = subprocess.Popen(command, stdout=output, stderr=output, process_group=0, pass_fds=[lock.fileno()])
        job.runs(lambda: os.killpg(process.pid, signal.SIGINT))
        if process.wait():
            raise Failure(f"{failed_line(log)} (all of it: {log})")


def failed_line(log: Path) -> str:
    """The line of a stage's output that says why it failed: the one before DVC's own."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    place = next((place for place, line in enumerate(lines) if line.startswith("ERROR: ")), len(lines))
    return lines[max(0, place - 1)] if lines else "no output"


def progress_table(jobs: Sequence[Job]) -> Table:
    """The jobs that run or failed, then as many of the others as there is room for."""
    table = Table("model", "state", "epoch", "validation", "left", "", box=None, pad_edge=False)
    order = ["failed", "running", "waiting", "done"]
    for job in sorted(jobs, key=lambda job: order.index(job.state))[:SHOWN]:
        epoch = f"{len(job.history)}/{job.epochs}" if job.history else ""
        accuracy = f"{job.history[-1].value:.1%}" if job.history else ""
        table.add_row(job.cell, job.state, epoch, accuracy, _left(job), job.note[:60])
    table.caption = ", ".join(f"{sum(job.state == state for job in jobs)} {state}" for state in order)
    return table


def _left(job: Job) -> str:
    """The time that the training will still take, by its median epoch, as it may have paused; it may stop early."""
    if job.state != "running" or len(job.history) < 2:
        return ""
    epoch = median(after.timestamp - before.timestamp for before, after in pairwise(job.history)) / 1000
    return duration(epoch * (job.epochs - job.history[-1].step))
