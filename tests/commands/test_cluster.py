"""`repro --ray` on a real cluster of three hosts that share nothing but addresses; one is killed while it trains."""

from __future__ import annotations

import ast
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.clones import Project, clone, digests
from helpers.hosts import Host, can_make_hosts, hosts
from helpers.servers import KEYS

GRID = {"variants": ["tutorial"], "seeds": [1, 2], "batch_size": 16, "threads": 1}
# Waits until the checkpoint whose file's name it is told is in the bucket, and both models' runs are on the server.
SENT = """
import boto3, mlflow, sys, time
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
while not s3.list_objects_v2(Bucket="bucket", Prefix=f"dvc/car-or-truck/checkpoints/{sys.argv[2]}")["KeyCount"]:
    time.sleep(0.1)
while len(mlflow.search_runs(search_all_experiments=True, output_format="list")) < 2:
    time.sleep(0.1)
"""


def grid(tree: Any) -> None:
    tree["train"] |= GRID
    tree["variants"]["tutorial"]["epochs"] = 100  # long enough to be killed in


def await_true(condition: Callable[[], bool], seconds: float, message: str) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, message
        time.sleep(0.5)


def await_line(log: Path, words: str, seconds: float) -> None:
    await_true(lambda: words in log.read_text(), seconds, f"{log} does not say {words!r}")


@pytest.mark.slow
@pytest.mark.skipif(not can_make_hosts(), reason="network namespaces need root and iproute2")
def test_a_cluster_of_hosts_gives_the_bytes_of_a_serial_run_though_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    serial = clone(tmp_path / "serial")
    serial.edit(grid)
    serial.run("dvc", "repro", PYTHONPATH=str(serial.root / "src"))

    with hosts(tmp_path, 3) as (head, *others):
        project = hub(head, tmp_path)
        environment = {
            **KEYS,
            "PYTHONPATH": str(project.root / "src"),
            "MLFLOW_TRACKING_URI": f"http://{head.address}:5000",
        }
        for host in (head, *others):
            role = ["--head", "--include-dashboard=false"] if host is head else [f"--address={head.address}:6379"]
            address = f"--node-ip-address={host.address}"
            role += [f"--temp-dir={tempfile.mkdtemp(prefix='ray')}"] if host is head else []  # sockets: a short path
            host.start(
                "ray",
                "start",
                *role,
                address,
                f"--num-cpus={0 if host is head else 1}",
                "--disable-usage-stats",
                "--block",
                variables=KEYS,
            )
            log = host.home / f"{len(host.processes) - 1}-ray.txt"
            await_line(log, "will now block", 180)
        running = head.start(
            "car-or-truck", "repro", "--ray", f"{head.address}:6379", "--checkpoint-every", "0",
            folder=project.root, variables=environment,
        )  # fmt: skip
        victim = others[1]
        caches = victim.home / ".cache/car-or-truck"
        await_true(lambda: any(caches.glob("*/.dvc/tmp/training/*.npz")) or running.poll() is not None, 600, "no epoch")
        assert running.poll() is None, log_of(head)
        (checkpoint, *_) = caches.glob("*/.dvc/tmp/training/*.npz")
        head.run("python", "-c", SENT, f"http://{head.address}:9000", checkpoint.name, variables=environment)
        victim.kill()
        assert running.wait(timeout=1200) == 0, log_of(head)
        output = log_of(head)
        assert "2 models to train or evaluate" in output
        assert output.count("retried 1x") == 1
        assert digests(project.root) == digests(serial.root)
        assert (
            head.run("dvc", "status", folder=project.root, variables=environment).strip()
            == "Data and pipelines are up to date."
        )
        script = "import mlflow; print([run.info.status for run in mlflow.search_runs(search_all_experiments=True, "
        script += "output_format='list')])"
        assert set(ast.literal_eval(head.run("python", "-c", script, variables=environment))) == {"FINISHED", "KILLED"}


def log_of(host: Host) -> str:
    return max(host.home.glob("*-car-or-truck.txt")).read_text()


def hub(head: Host, folder: Path) -> Project:
    """On the first host: git, S3 and a tracking server; and a clone whose commit and images are there."""
    project = clone(folder / "project")
    project.edit(grid)
    project.set_constants("cells/remote.py", HEARTBEAT=2, SILENCE=12)
    project.run("dvc", "remote", "add", "-d", "storage", "s3://bucket/dvc")
    project.run("dvc", "remote", "modify", "storage", "endpointurl", f"http://{head.address}:9000")
    bare = folder / "git" / "project.git"
    head.start("moto_server", "-H", head.address, "-p", "9000")
    head.start(
        "mlflow", "server", "--host", head.address, "-p", "5000", "--allowed-hosts", "*",
        "--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./artifacts",
    )  # fmt: skip
    bare.parent.mkdir()
    head.start("git", "daemon", "--export-all", f"--base-path={bare.parent}", "--enable=receive-pack", str(bare))
    head.run("git", "init", "-q", "--bare", "-b", "main", str(bare))
    python = "import boto3, time\n"
    python += f"s3 = boto3.client('s3', endpoint_url='http://{head.address}:9000')\n"
    python += (
        "for _ in range(120):\n  try:\n    s3.create_bucket(Bucket='bucket'); break\n  except Exception: time.sleep(1)"
    )
    head.run("python", "-c", python, variables=KEYS)
    environment = {**KEYS, "PYTHONPATH": str(project.root / "src")}
    head.run("dvc", "repro", "prepare", folder=project.root, variables=environment)
    for command in (
        ["remote", "add", "origin", f"git://{head.address}/project.git"],
        ["add", "."],
        ["commit", "-q", "-m", "grid"],
        ["push", "-q", "-u", "origin", "main"],
    ):
        head.run("git", *command, folder=project.root)
    return project
