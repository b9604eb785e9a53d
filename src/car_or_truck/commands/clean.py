"""`clean`: removes the runs, versions and artifacts that nothing refers to any more.

Kept is what an alias, a trained cell in models/ or a DVC experiment refers to, what is under way, and every run that
the project did not make.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import mlflow
from mlflow.entities import ViewType
from rich.console import Console
from ruamel.yaml import YAML

from car_or_truck import files, paths
from car_or_truck.cells import names as labels
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.registry import versions as registry
from car_or_truck.registry.versions import Version
from car_or_truck.tracking import store


@dataclass
class Rubbish:
    """What nothing refers to, in one experiment and its registered model."""

    versions: list[Version] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)  # MLflow's Run
    models: list[Any] = field(default_factory=list)  # MLflow's LoggedModel
    folders: list[Path] = field(default_factory=list)  # of artifacts, which the store does not know


def clean(params: Params, console: Console, dry_run: bool = False) -> None:
    """Remove it all, for good where the store is a local file; says what, and how much room it took."""
    with store.one_at_a_time("promotion"):
        client, kept = store.open_store(), wanted(params)
        experiments = dvc_experiments()
        names = (labels.NAME, f"{labels.NAME}-rendered")
        found = {
            name: rubbish(client, name, kept, experiments) for name in names if client.get_experiment_by_name(name)
        }
        places: list[Path] = []
        for name, part in found.items():
            places += part.folders
            for line, place in _told(part):
                console.print(f"{name}: {line}", highlight=False, soft_wrap=True)
                places += [place] if place else []
        if not any(part.versions or part.runs or part.models or part.folders for part in found.values()):
            console.print("Nothing to remove: an alias, models/ or a DVC experiment refers to every run and version.")
            return
        room = sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file()) / 1e6
        if dry_run:
            console.print(f"A dry run: nothing was removed; that would free {room:.1f} MB.", highlight=False)
            return
        local = store.uri().startswith("sqlite:")
        for name, part in found.items():
            _remove(client, name, part, local)
        how = "for good" if local else "to the server's trash; `mlflow gc` there empties it"
        console.print(f"Removed {how}: {room:.1f} MB.", highlight=False)


def wanted(params: Params, models: Path = paths.MODELS) -> set[str]:
    """The fingerprints of the cells in models/. Failure where models/ lacks what dvc.lock has of it."""
    cells = {files.read_json(path, "")["cell"] for path in models.glob("*/*/cell.json")}
    try:
        trained = YAML(typ="safe").load(Path("dvc.lock"))["stages"]
    except (OSError, KeyError, TypeError):
        trained = {}
    missing = [
        f"{variant}-{seed}"
        for variant, seed in params.cells
        if f"train@{variant}-{seed}" in trained and not (paths.model_folder(variant, seed) / "cell.json").is_file()
    ]
    if missing or not cells:
        lacking = f"lacks {', '.join(missing)}" if missing else "is empty"
        raise Failure(
            f"{models}/ {lacking}, so it cannot tell which runs are wanted. Run `dvc checkout` or `dvc pull`."
        )
    return cells


def dvc_experiments() -> set[str]:
    """The names of all DVC experiments that are still there."""
    command = ["dvc", "exp", "list", "--all-commits", "--name-only"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"`{' '.join(command)}` fails ({error}), so DVC's experiments are not known.") from None
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def rubbish(client: mlflow.MlflowClient, name: str, cells: set[str], experiments: set[str]) -> Rubbish:
    """What nothing refers to in the experiment `name` and the registered model of that name."""
    experiment = client.get_experiment_by_name(name)
    on_disk = list(_artifact_folders(experiment, name))
    registered = registry.versions(client, name) if client.search_registered_models(f"name = '{name}'") else []
    aliased = {version.number for version in registry.aliases(client, name).values()} if registered else set()
    runs = list(
        _pages(lambda token: client.search_runs([experiment.experiment_id], "", ViewType.ALL, page_token=token))
    )

    def is_wanted(tags: dict[str, str]) -> bool:
        return tags.get("cell") in cells or tags.get("dvc.exp") in experiments

    found = Rubbish()
    keep = {version.run_id for version in registered if version.number in aliased or is_wanted(version.tags)}
    found.runs = [
        run
        for run in runs
        if run.info.lifecycle_stage == "active"
        and "cell" in run.data.tags
        and not is_wanted(run.data.tags)
        and run.info.run_id not in keep
        and run.info.status not in ("RUNNING", "SCHEDULED")
    ]
    gone = {run.info.run_id for run in found.runs}
    found.versions = [
        version
        for version in registered
        if version.number not in aliased
        and not is_wanted(version.tags)
        and (version.run_id in gone or version.run_id not in {run.info.run_id for run in runs})
    ]
    search = client.search_logged_models
    models = list(_pages(lambda token: search([experiment.experiment_id], page_token=token)))
    found.models = [model for model in models if model.source_run_id in gone]
    known = {run.info.run_id for run in runs} | {model.model_id for model in models}
    found.folders = [folder for folder in on_disk if folder.name not in known]
    return found


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _artifact_folders(experiment: Any, name: str) -> Iterator[Path]:
    """The folders of runs and models in mlruns/, where this project's own store is the only one that uses it."""
    folder = paths.root() / "mlruns" / name
    own = store.uri() == f"{store.LOCAL}{paths.root() / 'mlflow.db'}" and _path(experiment.artifact_location) == folder
    for parent in (folder, folder / "models") if own else ():
        if parent.is_dir():
            yield from (path for path in parent.iterdir() if path.is_dir() and path.name != "models")


def _path(location: str) -> Path | None:
    parsed = urlparse(location)
    return Path(unquote(parsed.path)) if parsed.scheme in ("", "file") else None


def _around(location: str) -> Path | None:
    """The folder of one run or model, which holds nothing but its artifacts; None where it is not on this disk."""
    place = _path(location)
    return place.parent if place and place.name == "artifacts" else None


def _told(part: Rubbish) -> Iterator[tuple[str, Path | None]]:
    """A line for each thing that goes, and its folder where it is a local one."""
    for version in part.versions:
        yield f"{version}, which has no alias and no output", None
    for run in part.runs:
        place = _around(run.info.artifact_uri)
        yield f"run {run.info.run_name} {run.info.run_id[:8]} ({run.info.status.lower()})", place
    for model in part.models:
        yield f"model {model.model_id} of such a run", _around(model.artifact_location)
    for folder in part.folders:
        yield f"artifacts in {folder.name}, which the store does not know", None


def _remove(client: mlflow.MlflowClient, name: str, part: Rubbish, local: bool) -> None:
    """Versions first, so that no version is ever left without its model."""
    for version in part.versions:
        client.delete_model_version(name, str(version.number))
    for model in part.models:
        client.delete_logged_model(model.model_id)
    for run in part.runs:
        client.delete_run(run.info.run_id)
    if local:
        _empty_trash([run.info.run_id for run in part.runs], [model.model_id for model in part.models])
    for folder in (*[place for _, place in _told(part) if place and local], *part.folders):
        shutil.rmtree(folder, ignore_errors=True)


def _empty_trash(runs: list[str], models: list[str]) -> None:
    """What `mlflow gc` does, for these runs and models alone: it would also remove every experiment in the trash."""
    from mlflow.cli import _gc_tracking_resources
    from mlflow.tracking._tracking_service.utils import _get_store

    with redirect_stdout(StringIO()):
        _gc_tracking_resources(
            backend_store=_get_store(),
            run_ids=runs,
            experiment_ids=None,
            logged_model_ids=models,
            older_than=None,
            time_delta=0,
            skip_experiments=True,
            skip_logged_models=False,
        )
