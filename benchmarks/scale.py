"""How fetch, prepare and one epoch of training scale with the number of images.

`python benchmarks/scale.py [COUNT ...]` (default: 1000 10000) draws COUNT synthetic train images, and a tenth as many
for validation, in a temporary folder, and runs each stage in its own process. It prints the stage's wall time, CPU
seconds, images per second of wall time, and peak anonymous memory, which excludes the page cache that holds
the mapped arrays.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import lab
import psutil
from ruamel.yaml import YAML

STAGES = [["fetch"], ["prepare"], ["train", "tutorial", "0"]]


def watch(process: psutil.Popen) -> tuple[float, float]:
    """Wait for a process; returns its CPU seconds and its peak anonymous memory in GiB, sampled 20 times a second."""
    cpu, peak = lab.child_cpu_seconds(), 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            info = process.memory_info()
            peak = max(peak, info.rss - info.shared)
        time.sleep(0.05)
    return lab.child_cpu_seconds() - cpu, peak / 2**30


def run(count: int, folder: Path) -> None:
    tree = YAML(typ="safe").load(lab.ROOT / "params.yaml")
    tree["data"] |= {"sources": ["rendered"], "rendered": {"train": count, "valid": count // 10, "seed": 31415}}
    tree["data"]["exclude"] = str(lab.ROOT / tree["data"]["exclude"])
    tree["variants"]["tutorial"]["epochs"] = 1
    YAML(typ="safe").dump(tree, folder / "params.yaml")
    (folder / "dvc.yaml").touch()  # marks the root, where MLflow's store goes
    total = count + count // 10
    for stage in STAGES:
        start = time.monotonic()
        process = psutil.Popen(
            [sys.executable, "-m", "car_or_truck", *stage],
            cwd=folder,
            env=lab.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        cpu, peak = watch(process)
        seconds = time.monotonic() - start
        if process.returncode != 0:
            raise SystemExit(f"{stage[0]} failed with {count} images")
        print(
            f"| {count:,} | {stage[0]} | {seconds:.0f} | {cpu:.0f} | {total / seconds:,.0f} | {peak:.2f} GiB |",
            flush=True,
        )


def main() -> None:
    print(lab.machine(), end="\n\n")
    print("| images | stage | seconds | CPU seconds | images/s | memory |", "|---|---|---|---|---|---|", sep="\n")
    for argument in sys.argv[1:] or ["1000", "10000"]:
        with tempfile.TemporaryDirectory() as folder:
            run(int(argument), Path(folder))


if __name__ == "__main__":
    main()
