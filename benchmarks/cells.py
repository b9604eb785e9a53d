"""How `dvc repro` and `compare` grow with the number of cells; what a `dvc repro` costs that has nothing to do.

`python benchmarks/cells.py [COUNT ...]`, 1, 3, 10 and 30 by default: that many seeds of a tiny model on the synthetic
images, so that what is measured is the pipeline and not the convolutions. Each `dvc repro` adds cells to those that
are there.
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


def tiny(tree: Any) -> None:
    tree["data"]["sources"] = ["rendered"]
    tree["variants"] = {"tiny": TINY}
    tree["train"] |= {"variants": ["tiny"], "seeds": [0]}


def set_seeds(tree: Any, count: int) -> None:
    tree["train"]["seeds"] = list(range(count))


def main(counts: list[int]) -> None:
    print(f"{lab.machine()}; medians of {ROUNDS}", end="\n\n")
    print("| models | to add a model, CPU s | `compare`, CPU s | `dvc repro` with nothing to do | report.html |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder, before = lab.clone(Path(place) / "clone", tiny), 0
        lab.cost(["dvc", "repro", "prepare"], folder)
        for count in counts:
            lab.edit(folder, partial(set_seeds, count=count))
            _, added = lab.cost(["dvc", "repro"], folder)
            _, compared = lab.cost(["car-or-truck", "compare"], folder)
            seconds, nothing = zip(*(lab.cost(["dvc", "repro"], folder) for _ in range(ROUNDS)), strict=True)
            report = (folder / "reports/report.html").stat().st_size / 1e6
            print(
                f"| {count} | {(added - compared) / (count - before):.1f} | {compared:.1f} | "
                f"{median(seconds):.1f} s, {median(nothing):.1f} CPU s | {report:.1f} MB |",
                flush=True,
            )
            before = count


if __name__ == "__main__":
    main(sorted(map(int, sys.argv[1:])) or [1, 3, 10, 30])
