"""An epoch with everything on (DVC, tracking, checkpoints, determinism) against the lesson's flow as a plain script.

python benchmarks/engine.py ARCHIVE [ROUNDS]; ARCHIVE is the data set's zip. All commands take turns, ROUNDS times.
CPU seconds are those of the whole process tree, from one epoch's line to the next; memory is its own at
each line (RssAnon: what no file backs; the page cache that holds mapped arrays is the kernel's).
"""

from __future__ import annotations

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


def measured(command: list[str], folder: Path) -> tuple[float, float, float]:
    """(CPU seconds of the last epoch, CPU seconds of all, peak memory in GiB) of a command that prints epochs."""
    process = psutil.Popen(
        command, cwd=folder, env=lab.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    marks, peak = [], 0.0
    for line in process.stdout:
        tree = [process, *process.children(recursive=True)]
        times = [one.cpu_times() for one in tree]
        peak = max(peak, sum(info.rss - info.shared for info in map(psutil.Process.memory_info, tree)) / 2**30)
        if "  epoch " in line:
            marks.append(sum(one.user + one.system for one in times))
    process.wait()
    return marks[-1] - marks[-2], marks[-1], peak


def main(archive: str, rounds: int = 1) -> None:
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)

    def short(tree: Any) -> None:
        lab.archive(tree, archive)
        for variant in VARIANTS:
            tree["variants"][variant]["epochs"] = EPOCHS

    def set_precision(tree: Any, to: str) -> None:
        tree["train"]["precision"] = to

    with tempfile.TemporaryDirectory() as place:
        folder = lab.clone(Path(place) / "clone", short)
        lab.cost(["dvc", "repro", "prepare"], folder)
        for _ in range(rounds):
            for variant in VARIANTS:
                plain = [sys.executable, str(lab.ROOT / "benchmarks/plain_keras.py"), "data/raw", variant, str(EPOCHS)]
                found[f"{variant}, plain script"].append(measured(plain, folder))
                for precision in ("float32", "auto"):
                    lab.edit(folder, partial(set_precision, to=precision))
                    ours = ["dvc", "repro", "--force", "--single-item", f"train@{variant}-31415"]
                    found[f"{variant}, {precision}"].append(measured(ours, folder))
    print(f"{lab.machine()}; medians of {rounds}", end="\n\n")
    print(
        "| model | CPU seconds an epoch | relative to the plain script | memory, GiB | relative to the plain script |"
    )
    print("|---|---|---|---|---|")
    for name, figures in found.items():
        epoch, _, peak = (statistics.median(column) for column in zip(*figures, strict=True))
        plain_epoch, _, plain_peak = (
            statistics.median(column) for column in zip(*found[f"{name.split(',')[0]}, plain script"], strict=True)
        )
        print(f"| {name} | {epoch:.1f} | {epoch / plain_epoch:.2f} | {peak:.2f} | {peak / plain_peak:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
