"""`reproduce`: from a registered version back to its commit, parameters, data and packages.

With --run, its stages run again in a temporary clone of that commit, and the predictions are compared.
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
from dvc.repo import Repo
from rich.console import Console

from car_or_truck import files, paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell, TrainedCell, read_dataset
from car_or_truck.cells.times import duration, read_pace
from car_or_truck.commands.work import run_to_the_end
from car_or_truck.errors import Failure, summarize
from car_or_truck.git import git
from car_or_truck.lock import lock_text, prepared_md5, read_stages
from car_or_truck.registry import versions
from car_or_truck.registry.versions import Version
from car_or_truck.tracking import provenance
from car_or_truck.train import runtime
from car_or_truck.train.recipe import THRESHOLD


@dataclass(frozen=True)
class Origin:
    """How a version was made."""

    version: Version
    tags: dict[str, str]  # of its run
    folder: Path  # the files of its run's trace/
    cell: Cell
    requirements: list[str]

    @property
    def commit(self) -> str:
        """The commit that the training started at; empty without a repository."""
        return self.tags.get("git.commit", "")

    @property
    def is_here(self) -> bool:
        """Whether this repository has the commit."""
        return bool(self.commit) and git("cat-file", "-e", f"{self.commit}^{{commit}}") is not None

    @property
    def missing(self) -> list[str]:
        """The versions of the libraries that decide its numbers, where others are installed here."""
        return [f"{name}=={version}" for name, version in self.cell.versions.items() if _installed(name) != version]

    @property
    def changes(self) -> Path | None:
        """The uncommitted changes of that moment, as a patch."""
        path = self.folder / provenance.CHANGES
        return path if path.is_file() else None

    @property
    def stages(self) -> dict[str, Any]:
        """The entries of dvc.lock that the model comes from."""
        path = self.folder / provenance.OUTPUTS
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def reproduce(version_name: str, console: Console, run: bool = False, tolerance: float = 0.01) -> None:
    """Print the version's origin, and what of it is available here; with `run`, train it again and compare.

    Raises Failure when a prediction differs by more than `tolerance`.
    """
    with TemporaryDirectory(prefix="car-or-truck-") as scratch:
        origin = _read(versions.find(versions.open_registry(), version_name), Path(scratch))
        account = list(_account(origin))
        conclusion = _conclude(origin, [lack for _, lack in account if lack])
        for line in [conclusion, "", *(line for line, _ in account)]:
            console.print(line, soft_wrap=True)
        if run:
            _run_again(origin, Path(scratch) / "project", console, tolerance)


def _read(version: Version, scratch: Path) -> Origin:
    folder = provenance.download(version.run_id, scratch)
    try:
        cell = Cell.model_validate_json((folder / provenance.CELL).read_bytes())
        path = mlflow.artifacts.download_artifacts(f"{version.uri}/requirements.txt", dst_path=str(scratch))
    except (OSError, ValueError, mlflow.MlflowException) as error:
        raise Failure(f"{version} cannot be traced back, as its run is not whole: {summarize(error, 200)}") from None
    requirements = Path(path).read_text(encoding="utf-8").split()
    tags = mlflow.get_run(version.run_id).data.tags
    return Origin(version, tags, folder, cell, requirements)


def _conclude(origin: Origin, remarks: list[str]) -> str:
    """Whether the version can be trained again here, and what is not as it was."""
    trainable = origin.is_here and not origin.missing
    verdict = "can be trained again here, but not all is as it was" if trainable else "cannot be reproduced here"
    if not remarks:
        verdict, remarks = "can be reproduced here", ["commit, data, DVC outputs and packages are available"]
    pace = read_pace(origin.cell.fingerprint)
    took = f" (the training took {duration(pace.seconds)})" if pace else ""
    name = f"{origin.version.name} {origin.version}"
    hint = f"\n--run trains it again{took} and compares." if trainable else ""
    return f"{name} {verdict}: {'; '.join(remarks)}.{hint}"


def _account(origin: Origin) -> Iterator[tuple[str, str]]:
    """The version's origin, a line for each part, each with what of it is not available here, or nothing."""
    cell, cache = origin.cell, _cache()
    yield f"fingerprint  {cell.fingerprint[:12]}", ""
    availability = "(available)" if origin.is_here else "(NOT in this repository: fetch it)"
    commit = origin.commit or "none: it was not trained in a git repository"
    yield f"commit       {commit} {availability}", "" if origin.is_here else "its commit is not in this repository"
    if origin.changes:
        lines = len(origin.changes.read_bytes().splitlines())
        path = f"{provenance.FOLDER}/{provenance.CHANGES}"
        yield f"             with uncommitted changes, which its run keeps as {path} ({lines} lines)", ""
    if "rebuilt" in origin.tags:
        yield "             when the run was rebuilt from DVC's outputs, not when it was trained", ""
    yield f"parameters   seed {cell.seed}, precision {cell.precision}, threads {cell.threads}", ""
    for line in names.grouped_parameters(cell):
        yield f"             {line}", ""
    place = _data_place(origin, cache)
    lack = "its data are not here" * place.startswith("not")
    yield f"data         {cell.data.source}, digest {cell.data.digest[:12]} ({place})", lack
    for stage, entry in origin.stages.items():
        for out in entry.get("outs", []):
            no = "" if cache and _is_cached(cache, out["md5"]) else "not "
            yield f"DVC output   {out['path']} {out['md5']} of {stage} ({no}in the cache)", no and f"no {out['path']}"
    for line in origin.requirements:
        name, _, version = line.partition("==")
        other = "" if (current := _installed(name)) == version else f"here: {current}"
        yield f"package      {line} ({other or 'installed'})", other and f"{line}, {other}"
    if cell.precision == "mixed_bfloat16" and runtime.bfloat16_feature() is None:
        lack = "this processor has no bfloat16 arithmetic"
        yield f"processor    {lack}: expect other roundings, and a slow training", lack


def _data_place(origin: Origin, cache: Path | None) -> str:
    try:
        if read_dataset(paths.root()).splits == origin.cell.data.splits:
            return "in data/prepared"
    except Failure:
        pass
    md5 = prepared_md5(origin.stages)
    return "in DVC's cache" if cache and md5 and _is_cached(cache, md5) else "not here: `dvc pull`, or fetch it again"


def _cache() -> Path | None:
    result = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True)
    return Path(result.stdout.strip()) if result.returncode == 0 else None


def _is_cached(cache: Path, md5: str) -> bool:
    path = cache / "files" / "md5" / md5[:2] / md5[2:]
    listed = files.read_json(path, "") if path.is_file() and md5.endswith(".dir") else []
    return path.is_file() and all(_is_cached(cache, item["md5"]) for item in listed)


def _installed(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "not installed"


def _run_again(origin: Origin, clone: Path, console: Console, tolerance: float) -> None:
    """Run the cell's stages in a clone of its commit, and compare."""
    cell = origin.cell
    if not origin.is_here:
        raise Failure(f"The commit {origin.commit or '(none)'} of {origin.version} is not in this repository.")
    if origin.missing:
        remedy = f"Install the requirements.lock of {origin.commit[:12]} into another environment, and run this there."
        raise Failure(f"{origin.version} needs {', '.join(origin.missing)}. {remedy}")
    before = pd.read_csv(origin.folder / provenance.PREDICTIONS["valid"])
    console.print(f"Training and evaluating {cell.name} in {clone} ...")
    _check_out(origin, clone)
    for stage in ("train", "evaluate"):  # not by DVC, which knows the models of params.yaml only
        _shell(clone, "car-or-truck", stage, cell.variant, str(cell.seed))
    repeated = files.read_model(clone / cell.model_folder / "cell.json", TrainedCell, "")
    different = [
        key for key in Cell.model_fields if key != "fingerprint" and getattr(repeated, key) != getattr(cell, key)
    ]
    if different:
        console.print(f"Different from the original: {', '.join(different)}.", style="yellow")
    same_model = files.sha256(clone / cell.model_folder / "model.keras") == origin.version.tags.get("model.sha256")
    after = pd.read_csv(clone / cell.report_folder / "predictions.csv")
    console.print(verdict(before, after, same_model, tolerance))


def verdict(before: pd.DataFrame, after: pd.DataFrame, same_model: bool, tolerance: float) -> str:
    """What two tables of predictions show; a Failure when they differ by more than `tolerance`."""
    if not before["name"].equals(after["name"]) or not before["label"].equals(after["label"]):
        raise Failure("NOT REPRODUCED: the validation images are not the same.")
    largest = float(np.abs(before["probability"].to_numpy() - after["probability"].to_numpy()).max())
    if largest == 0:
        model = "the model is the same to the byte" if same_model else "the bytes of the model differ"
        return f"REPRODUCED: all {len(before)} predictions are the same to the last bit; {model}."
    changed = int(((before["probability"] > THRESHOLD) != (after["probability"] > THRESHOLD)).sum())
    difference = f"predictions differ by up to {largest:.2g}, and {changed} of {len(before)} labels changed"
    if not largest <= tolerance:
        raise Failure(f"NOT REPRODUCED: {difference}; the tolerance is {tolerance:g}.")
    return f"REPRODUCED within the tolerance of {tolerance:g}: {difference}."


def _check_out(origin: Origin, clone: Path) -> None:
    """The project as it was, in `clone`, with its data from DVC's cache, the remote or the source."""
    root = paths.root()
    _shell(root, "git", "clone", "--quiet", "--no-checkout", "--shared", str(root), str(clone))
    _shell(clone, "git", "checkout", "--quiet", origin.commit)
    if origin.changes:
        _shell(clone, "git", "apply", "--whitespace=nowarn", str(origin.changes))
    if (origin.folder / provenance.PARAMS).is_file():
        shutil.copyfile(origin.folder / provenance.PARAMS, clone / provenance.PARAMS)
    if (root / ".dvc" / "config.local").is_file():
        shutil.copyfile(root / ".dvc" / "config.local", clone / ".dvc" / "config.local")
    with Repo(str(root)) as repo, Repo(str(clone)) as copy, copy.config.edit("local") as local:
        for name, remote in repo.config["remote"].items():  # the clone would look for a relative one beside itself
            local["remote"].setdefault(name, {})["url"] = str(remote["url"])
    if cache := _cache():
        _shell(clone, "dvc", "config", "--local", "cache.dir", str(cache))
    lock = clone / "dvc.lock"  # with the origin's entries DVC finds its data
    files.write_text(lock, lock_text(read_stages(lock) | origin.stages))
    for attempt in (["checkout", "--quiet"], ["pull", "--quiet"]):
        if prepared_md5(origin.stages) and _shell(clone, "dvc", *attempt, "prepare", check=False):
            return
    _shell(clone, "dvc", "repro", "prepare")


def _shell(folder: Path, *command: str, check: bool = True) -> bool:
    """Run a command in the clone, with the clone's code and MLflow store; its output goes to stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_TRACKING_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder / "src"), *filter(None, [environment.get("PYTHONPATH")])])
    code = run_to_the_end(command, cwd=folder, env=environment, stdout=sys.stderr)
    if check and code:
        raise Failure(f"`{' '.join(command)}` fails with {code} in the clone; its output is above.")
    return code == 0
