"""`clean`: moves runs and models that nothing refers to any more into MLflow's trash, and removes their versions.

An alias, a trained model in models/, a branch, a tag, a DVC experiment or the newest comparison keeps a run.
So does being under way or stopped to be resumed, not having been made by this project, in this folder, a version
that a colleague's run shares, and one of another registered model, which a person made in the UI. A version that a
person registered stays.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import mlflow
from pydantic import BaseModel
from rich.console import Console

from car_or_truck import files, paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import cell_name
from car_or_truck.errors import Failure
from car_or_truck.git import git
from car_or_truck.lock import locked_stages
from car_or_truck.params import Params
from car_or_truck.registry import versions
from car_or_truck.registry.versions import Version
from car_or_truck.tracking import copies, delivery, permissions, relocation, runs, store, version_copies


@dataclass
class Unused:
    """What nothing refers to, in one experiment and its registered model."""

    versions: list[Version] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)  # MLflow's Run
    models: list[Any] = field(default_factory=list)  # MLflow's LoggedModel
    foreign: list[str] = field(default_factory=list)  # what is kept because it may be another project's

    def __bool__(self) -> bool:
        return bool(self.versions or self.runs or self.models)


def clean(params: Params, console: Console, dry_run: bool = False) -> None:
    """Move what is unused into the trash, and say what that was and how to empty it."""
    with store.one_at_a_time("promotion"):
        client, cells, experiments = versions.open_registry(), trained_cells(params), dvc_experiments()
        cells |= recorded_cells()
        cells |= trained_cells(params)  # again: a training, or an experiment, may have ended meanwhile
        unused = {
            name: find_unused(client, name, cells, experiments)
            for name in (names.REAL, names.SYNTHETIC)
            if client.get_experiment_by_name(name)
        }
        for name, part in unused.items():
            for line in _lines(part):
                console.print(f"{name}: {line}", soft_wrap=True)
        if not any(unused.values()):
            console.print("Nothing to remove: an alias, models/, a branch, a tag or an experiment refers to all of it.")
        elif dry_run:
            console.print("Dry run: nothing was removed.")
        else:
            with permissions.refusals_explained(f"remove runs and versions from {store.uri()}"):
                for name, part in unused.items():
                    _remove(client, name, part)
            where = shlex.quote(store.uri())
            options = f" --backend-store-uri {where} --tracking-uri {where}"
            empty = "`mlflow gc` there" if store.server() else f"`mlflow gc{options}`"
            versioned = any(part.versions for part in unused.values())
            removed = " Versions have none: those are removed." if versioned else ""
            console.print(f"Moved to the trash. {empty} empties it, for good.{removed}", soft_wrap=True)


class _Trained(BaseModel):
    """What is read of cell.json, of whichever version of the project it is."""

    cell: str


def trained_cells(params: Params) -> set[str]:
    """The fingerprints of the cells in models/, here and in DVC experiments that run, and of trainings to be resumed.

    Raises Failure when models/ lacks any that dvc.lock records.
    """
    running = paths.root() / ".dvc/tmp/exps"  # `dvc exp run --temp` or `--queue`; DVC lists them when they have ended
    records = [*paths.MODELS.glob("*/*/cell.json"), *running.glob(f"**/{paths.MODELS}/*/*/cell.json")]
    remedy = "Remove that folder; `dvc repro` trains the model again, if params.yaml names it."
    cells = {files.read_model(path, _Trained, remedy).cell for path in records}
    recorded = locked_stages()
    missing = [
        cell_name(variant, seed)
        for variant, seed in params.cells
        if f"train@{cell_name(variant, seed)}" in recorded
        and not (paths.model_folder(variant, seed) / "cell.json").is_file()
    ]
    if missing or not cells:
        problem = f"lacks {', '.join(missing)}" if missing else "is empty"
        raise Failure(
            f"{paths.MODELS}/ {problem}, so unused runs are not known. Run `dvc checkout` or `dvc pull` first."
        )
    return cells | {checkpoint.stem for checkpoint in paths.scratch("training").glob("*.npz")}


def recorded_cells() -> set[str]:
    """The fingerprints of the cells that any branch, tag or DVC experiment holds, where DVC's cache has them.

    An experiment's name does not tell: it can be renamed, or take a cell that was trained before from the run cache.
    """
    from dvc.api import DVCFileSystem

    cells = set()
    root, command = paths.root(), "for-each-ref --format=%(objectname) refs/exps refs/heads refs/remotes refs/tags"
    kept = git(*command.split())
    if kept is None and any((folder / ".git").exists() for folder in (root, *root.parents)):
        raise Failure(f"`git {command}` fails, so the models of branches and tags are not known. Run it to see why.")
    for revision in {"HEAD", *(kept or "").split()}:
        with suppress(Exception):  # without git, or of a commit without dvc.lock
            committed = DVCFileSystem(str(root), rev=revision)
            for path in committed.glob(f"{paths.MODELS}/*/*/cell.json"):
                with suppress(Exception):  # its file is not in the cache, for instance after `dvc gc`
                    cells.add(json.loads(committed.read_text(path))["cell"])
    return cells


def dvc_experiments() -> set[str]:
    """The names of all DVC experiments."""
    command = ["dvc", "exp", "list", "--all-commits", "--name-only"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        messages = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
        raise Failure(
            f"`{' '.join(command)}` fails ({messages[-1] if messages else error}), so DVC's experiments are not known."
        ) from None
    return {line.strip() for line in result.stdout.splitlines() if line.strip()}


def find_unused(client: mlflow.MlflowClient, name: str, cells: set[str], experiments: set[str]) -> Unused:
    """What nothing refers to in the experiment `name` and in the registered model of that name."""
    experiment_ids, order = [client.get_experiment_by_name(name).experiment_id], ["attributes.start_time DESC"]
    all_runs = list(runs.pages(lambda token: client.search_runs(experiment_ids, order_by=order, page_token=token)))
    registered = versions.versions(client, name)
    aliased = {version.number for version in versions.aliases(client, name).values()} if registered else set()

    def is_wanted(tags: dict[str, str]) -> bool:
        return tags.get("cell") in cells or tags.get("dvc.exp") in experiments

    wanted = [version for version in registered if version.number in aliased or is_wanted(version.tags)]
    kept = {version.run_id for version in wanted} | _kept_runs(client, name, registered, all_runs)
    active, models, unused = {run.info.run_id for run in all_runs}, _logged_models(client, experiment_ids), Unused()
    for run in all_runs:
        ours = "cell" in run.data.tags or names.COMPARISON in run.data.tags
        under_way = run.info.status in ("RUNNING", "SCHEDULED")
        if not ours or under_way or is_wanted(run.data.tags) or run.info.run_id in kept:
            continue
        logged = [model for model in models if model.source_run_id == run.info.run_id]
        if elsewhere := _elsewhere(run, [run.info.artifact_uri, *(model.artifact_location for model in logged)]):
            unused.foreign.append(f"{_named(run)}, which {elsewhere}")
        else:
            unused.runs.append(run)
            unused.models += logged
    for model in models:  # of runs that a person deleted
        deleted = model.source_run_id and model.source_run_id not in active | kept
        if deleted and not _elsewhere(_run(client, model.source_run_id), [model.artifact_location]):
            unused.models.append(model)
    unused_ids = {run.info.run_id for run in unused.runs}
    for version in registered:
        by_hand = "cell" not in version.tags
        if by_hand or version in wanted or version.run_id in active - unused_ids:
            continue
        location = client.get_model_version_download_uri(name, str(version.number))
        elsewhere = "" if version.run_id in unused_ids else _elsewhere(_run(client, version.run_id), [location])
        if elsewhere:
            unused.foreign.append(f"{version}, which {elsewhere}")
        else:
            unused.versions.append(version)
    return unused


def _kept_runs(client: mlflow.MlflowClient, name: str, registered: list[Version], all_runs: list[Any]) -> set[str]:
    """Of the newest comparison made here and that in reports/, of versions shared with others, and of other models."""
    colleagues, present = {run.info.run_id for run in all_runs if _elsewhere(run, [])}, runs.present_comparison()
    compared = [run for run in all_runs if names.COMPARISON in run.data.tags and run.info.status == "FINISHED"]
    newest = [run.info.run_id for run in compared if run.info.run_id not in colleagues][:1]
    current = [run.info.run_id for run in compared if run.data.tags[names.COMPARISON] == present]
    shared = [
        version
        for version in registered
        if colleagues.intersection(version.tags.get(version_copies.RUNS, "").split(", "))
    ]
    every = runs.pages(lambda token: client.search_model_versions(page_token=token))
    others = [version for version in every if version.name != name]
    return {*newest, *current, *(version.run_id for version in [*shared, *others])}


def _logged_models(client: mlflow.MlflowClient, experiment_ids: list[str]) -> list[Any]:
    """All that the experiments have; none on a server that does not know them."""
    try:
        return list(runs.pages(lambda token: client.search_logged_models(experiment_ids, page_token=token)))
    except mlflow.MlflowException as error:
        if error.error_code not in copies.UNKNOWN:
            raise
        return []


def _elsewhere(run: Any | None, locations: list[str]) -> str:
    """Why a run may be another project's; empty if it was made here: delivered to the server, or stored in mlruns/."""
    if store.server():
        origin = run.data.tags.get(delivery.ORIGIN) if run else None
        is_ours = origin and store.exists() and _run(mlflow.MlflowClient(store.own()), origin)
        return "" if is_ours else "was not delivered from here"
    outside = [location for location in locations if not relocation.lies_in(location, paths.root())]
    return f"lies in {outside[0]}" if outside else ""


def _run(client: mlflow.MlflowClient, run_id: str) -> Any | None:
    """The run, also from the trash; None if the store does not know it."""
    try:
        return client.get_run(run_id)
    except mlflow.MlflowException:
        return None


def _lines(part: Unused) -> Iterator[str]:
    for version in part.versions:
        yield f"{version}, which has no alias and no output"
    for run in part.runs:
        yield _named(run)
    for model in part.models:
        yield f"model {model.model_id} of such a run"
    for description in part.foreign:
        yield f"kept {description}"


def _named(run: Any) -> str:
    return f"run {run.info.run_name} {run.info.run_id[:8]} ({run.info.status.lower()})"


def _remove(client: mlflow.MlflowClient, name: str, part: Unused) -> None:
    """Versions first, so that no version is ever left without its model."""
    for version in part.versions:
        client.delete_model_version(name, str(version.number))
    for model in part.models:
        client.delete_logged_model(model.model_id)
    for run in part.runs:
        client.delete_run(run.info.run_id)
