"""`reproduce`: from a registered version alone back to its commit, parameters, data and environment; and there again.

With --run the commit is cloned beside the project, the stages run anew in the clone, and their answers are compared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from rich.console import Console
from ruamel.yaml import YAML

from car_or_truck import files, paths
from car_or_truck.cells import names as labels
from car_or_truck.errors import Failure
from car_or_truck.registry import versions as registry
from car_or_truck.registry.versions import CHAMPION, Version
from car_or_truck.tracking import provenance as trace
from car_or_truck.tracking import store
from car_or_truck.train import runtime

FACTS = ("recipe", "batch_size", "precision", "threads", "data", "code", "versions")  # that decide a cell's numbers


@dataclass(frozen=True)
class Traced:
    """What a version says of how it was made."""

    version: Version
    folder: Path  # with the files of its run's trace/
    cell: dict[str, Any]
    requirements: list[str]

    @property
    def stage(self) -> str:
        """VARIANT-SEED, as DVC names the cell's stages."""
        return labels.run_name(self.cell)

    @property
    def commit(self) -> str:
        """The commit that the training started at; empty when there was no repository."""
        return self.version.tags.get("git.commit", "")

    @property
    def changes(self) -> Path | None:
        """What git had not recorded then, as a patch."""
        path = self.folder / trace.CHANGES
        return path if path.is_file() else None

    @property
    def stages(self) -> dict[str, Any]:
        """The entries of dvc.lock that the model comes from."""
        path = self.folder / trace.OUTPUTS
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def reproduce(wanted: str | None, console: Console, run: bool = False, tolerance: float = 0.01) -> None:
    """Print where the version comes from and what of that is at hand; with `run`, make it again and compare.

    Raises Failure when the answers differ by more than `tolerance`.
    """
    with TemporaryDirectory(prefix="car-or-truck-") as scratch:
        traced = _read(registry.find(store.open_store(), wanted or CHAMPION), Path(scratch))
        for line in _account(traced):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if run:
            _again(traced, Path(scratch) / "project", console, tolerance)


def _read(version: Version, scratch: Path) -> Traced:
    folder = trace.read(version.run_id, scratch)
    cell = files.read_json(folder / trace.CELL, f"{version} was registered without what `reproduce` needs.")
    path = mlflow.artifacts.download_artifacts(f"{version.uri}/requirements.txt", dst_path=str(scratch))
    requirements = Path(path).read_text(encoding="utf-8").split()
    return Traced(version, folder, cell, requirements)


def _account(traced: Traced) -> Iterator[str]:
    """The version's origin, a line for each part, with what is at hand."""
    version, cell = traced.version, traced.cell
    data = cell["data"]
    yield f"{version.name} {version}: cell {cell['cell'][:12]}"
    at_hand = "at hand" if _has(traced.commit) else "NOT in this repository: fetch it"
    yield f"commit       {traced.commit or 'none: it was not trained in a git repository'} ({at_hand})"
    if traced.changes:
        lines = len(traced.changes.read_text(encoding="utf-8").splitlines())
        where = f"{trace.FOLDER}/{trace.CHANGES}"
        yield f"             with changes that were not committed, which its run keeps in {where} ({lines} lines)"
    if "rebuilt" in version.tags:
        yield "             of the project when the run was rebuilt from DVC's outputs, not when it was trained"
    for key, value in {
        "seed": cell["seed"],
        "precision": cell["precision"],
        "threads": cell["threads"],
        **labels.parameters(cell),
    }.items():
        yield f"parameter    {key} = {value}"
    yield f"data         {data['source']}, digest {data['digest'][:12]} ({_where_data(traced)})"
    cache = _cache()
    for stage, entry in traced.stages.items():
        for out in entry.get("outs", []):
            there = "in the cache" if cache and _cached(cache, out["md5"]) else "not in the cache"
            yield f"DVC output   {out['path']} {out['md5']} of {stage} ({there})"
    for line in traced.requirements:
        name, _, needed = line.partition("==")
        here = _installed(name)
        yield f"environment  {line} ({'installed' if here == needed else f'here: {here}'})"
    if cell["precision"] == "mixed_bfloat16" and runtime.bfloat16_feature() is None:
        yield "environment  this processor does not compute in bfloat16: expect other roundings, and a slow training"


def _has(commit: str) -> bool:
    return bool(commit) and labels.git("cat-file", "-e", f"{commit}^{{commit}}") is not None


def _where_data(traced: Traced) -> str:
    try:
        if files.read_json(paths.PREPARED / "dataset.json", "")["arrays"] == traced.cell["data"]["arrays"]:
            return "in data/prepared"
    except Failure:
        pass
    cache, md5 = _cache(), _prepared(traced)
    return "in DVC's cache" if cache and md5 and _cached(cache, md5) else "not here: `dvc pull`, or fetch it again"


def _prepared(traced: Traced) -> str:
    outs = traced.stages.get("prepare", {}).get("outs", [])
    return next((out["md5"] for out in outs if out["path"] == str(paths.PREPARED)), "")


def _cache() -> Path | None:
    done = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _cached(cache: Path, md5: str) -> bool:
    return (cache / "files" / "md5" / md5[:2] / md5[2:]).is_file()


def _installed(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "not installed"


def _again(traced: Traced, clone: Path, console: Console, tolerance: float) -> None:
    """Run the cell's stages in a clone at its commit, and compare."""
    if not _has(traced.commit):
        raise Failure(f"The commit {traced.commit or '(none)'} of {traced.version} is not in this repository.")
    console.print(f"Running train@{traced.stage} and evaluate@{traced.stage} in {clone} ...", highlight=False)
    _check_out(traced, clone)
    _shell(clone, "dvc", "repro", "--force", "--no-run-cache", "--single-item", f"train@{traced.stage}")
    _shell(clone, "dvc", "repro", "--force", "--no-run-cache", "--single-item", f"evaluate@{traced.stage}")
    variant, seed = traced.cell["variant"], traced.cell["seed"]
    made = files.read_json(clone / paths.model_folder(variant, seed) / "cell.json", "")
    differing = [key for key in FACTS if made[key] != traced.cell[key]]
    if differing:
        console.print(f"Not the same as then: {', '.join(differing)}.", style="yellow", highlight=False)
    model = files.sha256(clone / paths.model_folder(variant, seed) / "model.keras")
    then = pd.read_csv(traced.folder / trace.PREDICTIONS)
    now = pd.read_csv(clone / paths.report_folder(variant, seed) / "predictions.csv")
    console.print(verdict(then, now, model == traced.version.tags.get("model.sha256"), tolerance), highlight=False)


def verdict(then: pd.DataFrame, now: pd.DataFrame, same_model: bool, tolerance: float) -> str:
    """What the comparison of two tables of predictions says; a Failure when they differ by more than `tolerance`."""
    if not then["name"].equals(now["name"]) or not then["label"].equals(now["label"]):
        raise Failure("NOT REPRODUCED: it was asked about other images than then.")
    largest = float(np.abs(then["probability"].to_numpy() - now["probability"].to_numpy()).max())
    if largest == 0:
        bytes_too = "the model is the same to the byte, and " if same_model else "the model's bytes differ, but "
        return f"REPRODUCED: {bytes_too}all {len(then)} predictions are the same to the last bit."
    changed = int(((then["probability"] > 0.5) != (now["probability"] > 0.5)).sum())
    said = f"the predictions differ by up to {largest:.2g}, and {changed} of {len(then)} answers changed"
    if not largest <= tolerance:
        raise Failure(f"NOT REPRODUCED: {said}; the tolerance is {tolerance:g}.")
    return f"REPRODUCED within the tolerance of {tolerance:g}: {said}."


def _check_out(traced: Traced, clone: Path) -> None:
    """The project as it was, in `clone`, with its data from DVC's cache, a remote, or the source."""
    root = paths.root()
    _shell(root, "git", "clone", "--quiet", "--no-checkout", "--shared", str(root), str(clone))
    _shell(clone, "git", "checkout", "--quiet", traced.commit)
    if traced.changes:
        _shell(clone, "git", "apply", "--whitespace=nowarn", str(traced.changes))
    if (traced.folder / trace.PARAMS).is_file():
        shutil.copyfile(traced.folder / trace.PARAMS, clone / trace.PARAMS)
    if (root / ".dvc" / "config.local").is_file():
        shutil.copyfile(root / ".dvc" / "config.local", clone / ".dvc" / "config.local")
    cache = _cache()
    if cache:
        _shell(clone, "dvc", "config", "--local", "cache.dir", str(cache))
    _lock(traced, clone / "dvc.lock")
    for attempt in (["checkout", "--quiet"], ["pull", "--quiet"]):
        if _prepared(traced) and _shell(clone, "dvc", *attempt, str(paths.PREPARED), check=False):
            return
    _shell(clone, "dvc", "repro", "prepare")


def _lock(traced: Traced, path: Path) -> None:
    """Write a dvc.lock that says where the data of then is."""
    yaml = YAML()
    lock: dict[str, Any] = yaml.load(path) if path.is_file() else {"schema": "2.0", "stages": {}}
    lock["stages"] |= traced.stages
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(lock, file)


def _shell(folder: Path, *command: str, check: bool = True) -> bool:
    """Run a command in the clone, with its code and a store of its own; what it prints goes to stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_TRACKING_"))}
    source = str(folder / "src")
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [environment.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr)
    if check and done.returncode:
        raise Failure(f"`{' '.join(command)}` fails with {done.returncode} in the clone; what it says is above.")
    return done.returncode == 0
