"""`repro --ray`: the models as tasks of a Ray cluster. The nodes share a git remote, a DVC remote and a server only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from car_or_truck.commands import sync
from car_or_truck.commands.repro import Job, failed_line, run_side_by_side, stale_jobs
from car_or_truck.commands.work import check_images, committed, run_dvc
from car_or_truck.errors import Failure, summarize
from car_or_truck.git import git
from car_or_truck.params import Params
from car_or_truck.tracking import store


@dataclass(frozen=True)
class Needs:
    """What a model gets on the cluster."""

    cpus: float
    gpus: float
    retries: int  # after its node or worker died
    checkpoint_seconds: float


def repro_on_ray(params: Params, address: str, needs: Needs, console: Console) -> None:
    """Train the stale models on a Ray cluster ("local": one on this machine), then `dvc repro` here.

    Raises Failure when Ray is not there, the commit is not pushed, or some models fail.
    """
    try:
        import ray
    except ImportError:
        raise Failure("Ray is not installed: `pip install -e '.[ray]'`, here and on every node.") from None
    commit, url = committed(params), git("remote", "get-url", "origin")
    if not url or not git("branch", "--remotes", "--list", "origin/*", "--contains", commit):
        raise Failure(f"The commit {commit[:12]} is not on origin, from which the nodes clone it: `git push origin`.")
    run_dvc("repro", "prepare")
    check_images()
    jobs = stale_jobs(params)
    if jobs:
        run_dvc("push", "prepare")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise Failure(f"The Ray cluster {address!r} cannot be used: {summarize(error, 200)}") from None
        tracking = {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_TRACKING_")}
        task = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus, max_retries=0)(run_work)

        def run(job: Job) -> None:
            job.state = "running"
            for attempt in range(needs.retries + 1):
                reference = task.remote(job.cell, url, commit, tracking, needs.checkpoint_seconds)
                job.runs(partial(ray.cancel, reference))
                try:
                    job.note += f"on {ray.get(reference)}"
                    return
                except ray.exceptions.RayTaskError as error:  # `run_work` failed: another attempt would, too
                    raise Failure(summarize(error.cause, 600)) from None
                except ray.exceptions.TaskCancelledError:
                    raise
                except ray.exceptions.RayError as error:  # its node or its worker died
                    if attempt == needs.retries:
                        raise
                    job.note = f"retried {attempt + 1}x ({type(error).__name__}), "

        failure = None
        try:
            run_side_by_side(jobs, run, len(jobs), console)
        except Failure as error:  # of some: the others' results are fetched all the same
            failure = error
        finally:
            ray.shutdown()
        stages = [f"{stage}@{job.cell}" for job in jobs if job.state == "done" for stage in ("train", "evaluate")]
        if stages:
            run_dvc("fetch", "--run-cache", "prepare")
            run_dvc("repro", "--pull", "--single-item", *stages)
            if not store.server():  # the runs lie on the nodes
                sync.sync(params)
        if failure:
            raise failure
    run_dvc("repro")


def run_work(cell: str, url: str, commit: str, tracking: dict[str, str], checkpoint_seconds: float) -> str:
    """On a node: `car-or-truck work` in a clone of the commit; returns the node's address. Raises Failure."""
    import ray

    node = str(ray.util.get_node_ip_address())
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "car-or-truck"
    caches.mkdir(parents=True, exist_ok=True)
    clone, log = caches / commit[:12], caches / f"{commit[:12]}-{cell}.txt"
    with FileLock(f"{clone}.lock"):
        if not clone.exists():
            part = f"{clone}.part"
            shutil.rmtree(part, ignore_errors=True)  # of a clone that was cut off
            for command in (["clone", "--quiet", url, part], ["-C", part, "checkout", "--quiet", "--detach", commit]):
                result = subprocess.run(["git", *command], stderr=subprocess.PIPE, text=True)
                if result.returncode:
                    raise Failure(
                        f"On {node} `git {' '.join(command)}` fails: {' '.join(result.stderr.split())[-200:]}"
                    )
            Path(part).rename(clone)
    environment = {**os.environ, **tracking, "PYTHONPATH": str(clone / "src")}
    command = [sys.executable, "-m", "car_or_truck", "work", cell, "--checkpoint-every", str(checkpoint_seconds)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=clone, env=environment, stdout=output, stderr=output, process_group=0)
        try:
            code = process.wait()
        except BaseException:  # cancelled
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            raise
    if code:
        raise Failure(f"{failed_line(log)} (in {log} on {node})")
    return node
