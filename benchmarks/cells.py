"""How `dvc repro` and `compare` scale with the number of models, and what an up-to-date `dvc repro` costs.

`python benchmarks/cells.py [COUNT ...]` (default: 1 3 10 30) trains COUNT seeds of a tiny model on the synthetic
images, so that the pipeline is measured rather than the convolutions. Each `dvc repro` adds models to the previous
ones.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lab

TINY = {
    "image_size": 16,
    "blocks": [{"filters": 4}],
    "head": {"pooling": "global_average"},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 2,
}
ROUNDS = 3


def use_tiny_variant(tree: Any) -> None:
    tree["data"]["sources"] = ["rendered"]
    tree["variants"] = {"tiny": TINY}
    tree["train"] |= {"variants": ["tiny"], "seeds": [0]}


def set_seeds(tree: Any, count: int) -> None:
    tree["train"]["seeds"] = list(range(count))


def main(counts: list[int]) -> None:
    print(f"{lab.machine()}; medians of {ROUNDS}", end="\n\n")
    print("| models | CPU s per added model | `compare`, CPU s | up-to-date `dvc repro` | report.html |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder, previous = lab.clone(Path(temporary) / "clone", use_tiny_variant), 0
        lab.cost(["dvc", "repro", "prepare"], folder)
        for count in counts:
            lab.edit(folder, partial(set_seeds, count=count))
            _, repro_cpu = lab.cost(["dvc", "repro"], folder)
            _, compare_cpu = lab.cost(["car-or-truck", "compare"], folder)
            seconds, cpu = zip(*(lab.cost(["dvc", "repro"], folder) for _ in range(ROUNDS)), strict=True)
            report = (folder / "reports/report.html").stat().st_size / 1e6
            print(
                f"| {count} | {(repro_cpu - compare_cpu) / (count - previous):.1f} | {compare_cpu:.1f} | "
                f"{median(seconds):.1f} s, {median(cpu):.1f} CPU s | {report:.1f} MB |",
                flush=True,
            )
            previous = count


if __name__ == "__main__":
    main(sorted(map(int, sys.argv[1:])) or [1, 3, 10, 30])
