"""Cost of an epoch in the pipeline (DVC, tracking, checkpoints, determinism) next to a plain Keras script.

python benchmarks/engine.py ARCHIVE [ROUNDS]; ARCHIVE is the dataset's zip. The commands alternate, ROUNDS times. CPU
seconds are those of the whole process tree between the last two epochs. Memory is anonymous memory (RssAnon), sampled
at each line of output; it excludes the page cache that holds the mapped arrays.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import lab
import psutil

EPOCHS = 2
VARIANTS = ("tutorial", "exercise")


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command that prints a line per epoch; returns the CPU seconds of its last, and its peak memory in GiB."""
    process = psutil.Popen(
        command, cwd=folder, env=lab.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    marks, peak = [], 0.0
    for line in process.stdout:
        tree = [process, *process.children(recursive=True)]
        times = [member.cpu_times() for member in tree]
        peak = max(peak, sum(info.rss - info.shared for info in map(psutil.Process.memory_info, tree)) / 2**30)
        if re.search(r"\b\d+/\d+ ", line):
            marks.append(sum(used.user + used.system for used in times))
    process.wait()
    return marks[-1] - marks[-2], peak


def main(archive: str, rounds: int = 1) -> None:
    measurements: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def shorten(tree: Any) -> None:
        lab.use_archive(tree, archive)
        for variant in VARIANTS:
            tree["variants"][variant]["epochs"] = EPOCHS

    def set_precision(tree: Any, precision: str) -> None:
        tree["train"]["precision"] = precision

    with tempfile.TemporaryDirectory() as temporary:
        folder = lab.clone(Path(temporary) / "clone", shorten)
        lab.cost(["dvc", "repro", "prepare"], folder)
        for _ in range(rounds):
            for variant in VARIANTS:
                plain = [sys.executable, str(lab.ROOT / "benchmarks/plain_keras.py"), "data/raw", variant, str(EPOCHS)]
                measurements[f"{variant}, plain script"].append(measure(plain, folder))
                for precision in ("float32", "auto"):
                    lab.edit(folder, partial(set_precision, precision=precision))
                    pipeline = ["dvc", "repro", "--force", "--single-item", f"train@{variant}-31415"]
                    measurements[f"{variant}, {precision}"].append(measure(pipeline, folder))
    print(f"{lab.machine()}; medians of {rounds}", end="\n\n")
    print(
        "| model | CPU seconds per epoch | relative to the plain script | memory, GiB | relative to the plain script |"
    )
    print("|---|---|---|---|---|")
    for name, figures in measurements.items():
        epoch, peak = (statistics.median(column) for column in zip(*figures, strict=True))
        plain_epoch, plain_peak = (
            statistics.median(column)
            for column in zip(*measurements[f"{name.split(',')[0]}, plain script"], strict=True)
        )
        print(f"| {name} | {epoch:.1f} | {epoch / plain_epoch:.2f} | {peak:.2f} | {peak / plain_peak:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
