"""What models side by side, and models on other machines, cost beside a serial `dvc repro`.

`python benchmarks/workers.py [MODELS] [TRIALS]` (default: 4 2) trains so many small models (40 images of 32 pixels, 1
epoch: nearly all of it is overhead) and prints

- CPU seconds of `dvc repro` and of `car-or-truck repro -j 1` and `-j 2`, alternating, as a ratio of medians: the
  efficiency of the workers is its inverse;
- for models that `car-or-truck work` made in another clone: CPU seconds a model beyond its two stages, the bytes and
  the files that it pushed; and what each model costs whoever collects them (`dvc status`, `fetch`, `repro --pull`);
- a model of 1,000 cells from these: at how many workers the collecting machine, which is serial, is the bottleneck.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lab

CELLS = 1000
WORKERS = 100
CELL_MINUTES = 20.0  # of a cell whose training is worth another machine: `exercise` on the photographs


def project(folder: Path, models: int) -> Path:
    def small(tree: Any) -> None:
        tree["data"] |= {"sources": ["rendered"], "rendered": {"train": 40, "valid": 40, "seed": 1}, "image_size": 32}
        tree["train"] |= {"variants": ["tutorial"], "seeds": list(range(models)), "batch_size": 16, "threads": 1}
        tree["variants"]["tutorial"]["epochs"] = 1

    clone = lab.clone(folder, small)
    (clone / "dvc.lock").unlink(missing_ok=True)
    lab.cost(["dvc", "remote", "add", "-f", "-d", "storage", str(folder.parent / "storage")], clone)
    lab.cost(["dvc", "repro", "prepare"], clone)
    return clone


def commit(clone: Path) -> None:
    lab.cost(["git", "add", "."], clone)
    lab.cost(["git", "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "grid"], clone)


def side_by_side(folder: Path, models: int, trials: int) -> None:
    commands = {
        "`dvc repro`": ["dvc", "repro"],
        "`repro -j 1`": ["car-or-truck", "repro", "-j", "1"],
        "`repro -j 2`": ["car-or-truck", "repro", "-j", "2"],
    }
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for trial in range(trials):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                costs[name].append(lab.cost(command, project(Path(place) / str(trial), models)))
    print(f"{models} models, medians of {trials}", end="\n\n")
    print("| command | seconds | CPU seconds | ratio of CPU seconds |", "|---|---|---|---|", sep="\n")
    base = statistics.median(cpu for _, cpu in costs["`dvc repro`"])
    for name, pairs in costs.items():
        seconds, cpu = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"| {name} | {seconds:.0f} | {cpu:.0f} | {cpu / base:.2f} |", flush=True)


def elsewhere(folder: Path, models: int) -> None:
    collector = project(folder / "collector", models)
    lab.cost(["dvc", "push", "prepare"], collector)
    commit(collector)
    for name in ("worker", "plain"):
        subprocess.run(["git", "clone", "--quiet", str(collector), str(folder / name)], check=True)
    lab.cost(["dvc", "pull", "prepare"], folder / "plain")
    names = [f"tutorial-{seed}" for seed in range(models)]
    storage = folder / "storage"
    stages = [f"{stage}@{name}" for name in names for stage in ("train", "evaluate")]
    _, plain = lab.cost(["dvc", "repro", "--single-item", *stages], folder / "plain")
    before = sizes(storage)
    worked = [lab.cost(["car-or-truck", "work", name], folder / "worker")[1] for name in names]
    pushed = sizes(storage)
    overhead = (sum(worked) - plain) / models
    status, _ = lab.cost(["dvc", "status", "--json"], collector)
    fetch, _ = lab.cost(["dvc", "fetch", "--run-cache", "prepare"], collector)
    restore, _ = lab.cost(["dvc", "repro", "--pull", "evaluate"], collector)
    collect = (status + fetch + restore) / models
    print(f"\n| of each of {models} models made by `work` | |", "|---|---|", sep="\n")
    print(f"| CPU seconds beyond its two stages | {overhead:.1f} |")
    mebibytes, files = (sum(pushed) - sum(before)) / models / 2**20, (len(pushed) - len(before)) / models
    print(f"| pushed | {mebibytes:.1f} MiB in {files:.0f} files |")
    print(f"| seconds of the collecting machine: status, fetch, restore | {collect:.2f} |")
    runs = [path.parent for path in (storage / "runs").glob("*/*/*")]
    for number in range(2 * CELLS):
        shutil.copytree(runs[number % len(runs)], storage / "runs" / f"{number % 256:02x}" / f"{number:064x}")
    many, _ = lab.cost(["dvc", "fetch", "--run-cache", "prepare"], folder / "plain")
    cell = 60 * CELL_MINUTES + overhead
    print(f"\nThe run cache of {CELLS:,} models is fetched in {many:.1f} s, by each `work` too.")
    hours = CELLS * cell / WORKERS / 3600
    print(f"{CELLS:,} models of {CELL_MINUTES:.0f} minutes on {WORKERS} workers: {hours:.1f} h of work,")
    print(f"{CELLS * collect / 3600:.2f} h of collecting; both are equal at {cell / collect:,.0f} workers.")


def sizes(folder: Path) -> list[int]:
    """The sizes of all files in a folder, in bytes."""
    return [path.stat().st_size for path in folder.rglob("*") if path.is_file()]


def main(models: int = 4, trials: int = 2) -> None:
    print(lab.machine(), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        side_by_side(Path(folder), models, trials)
        elsewhere(Path(folder), models)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
