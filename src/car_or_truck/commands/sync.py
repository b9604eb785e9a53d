"""`sync`: rebuild what the project's own store lacks, and deliver the runs that the server lacks.

What `train`, `evaluate` and `compare` left gives runs, versions and the comparison; the ledger (registry/ledger.py)
gives the versions their numbers, and the champion back.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from car_or_truck import files, paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import TrainedCell, read_dataset, read_trained
from car_or_truck.cells.results import read_evaluation, read_results, seed_folders
from car_or_truck.errors import Failure, mask_passwords
from car_or_truck.params import Params
from car_or_truck.registry import champion, ledger, versions
from car_or_truck.tracking import delivery, faults, runs, store
from car_or_truck.train import runtime
from car_or_truck.train.checkpoint import locked_checkpoint

MOST_LOST = 5  # versions that are named


def sync(params: Params, independent: bool = False) -> None:
    """Rebuild and deliver what is missing, and say what that was. Repeated, it adds nothing.

    `independent`: first part a copied store from its original, with all that it lacks.
    Raises Failure when the server cannot be reached; what was delivered before stays.
    """
    if independent and not store.make_independent():
        print(f"{store.own()} is independent already.", flush=True)
    trained = list(_trained())
    models = sorted({names.experiment_name(cell.stand_in) for cell, _ in trained})
    noted = {name: ledger.read(store.own(), name, ledger.VERSIONS) for name in models}
    empty = [name for name in models if not _numbers(name)]
    numbers = {
        cell.fingerprint: ledger.number(noted[names.experiment_name(cell.stand_in)], ledger.identity(cell))
        for cell, _ in trained
    }
    # Those that never had a number come last, in the order in which `dvc repro` trains them.
    trained.sort(key=lambda item: (numbers[item[0].fingerprint] or math.inf, *_position(params, item[0])))
    rebuilt = sum(_rebuild(cell, history, numbers[cell.fingerprint]) for cell, history in trained)
    models_here = f"{len(trained)} trained model{'s' * (len(trained) != 1)} in {paths.MODELS}/"
    print(f"{models_here}: {rebuilt or 'no'} run{'s' * (rebuilt != 1)} had to be rebuilt.", flush=True)
    server = store.server()
    for name in filter(_numbers, models):
        if name in empty:
            _tell_numbers(name, noted[name])
        if server is None:  # it has the promotions
            _restore_champion(name, name in empty)
    _rebuild_comparison(params, rebuilt > 0, bool(empty))
    if server:
        count = _deliver(server, set(numbers))
        print(f"{mask_passwords(server)}: {count or 'no'} run{'s' * (count != 1)} had to be delivered.", flush=True)


def _trained() -> Iterator[tuple[TrainedCell, pd.DataFrame]]:
    """The models in models/ that are whole; says of the others why they are left out."""
    for folder in seed_folders(paths.MODELS):
        try:
            if not _is_whole(folder / "model.keras"):
                raise Failure(f"{folder} has no whole model.keras.")
            yield read_trained(folder.parent.name, int(folder.name))
        except Failure as failure:
            print(f"Left out: {failure}", flush=True)


def _is_whole(model: Path) -> bool:
    try:
        with zipfile.ZipFile(model) as archive:
            return archive.testzip() is None and "config.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False


def _position(params: Params, cell: TrainedCell) -> tuple[int, str]:
    """Where params.yaml lists the cell; behind all others if it does not."""
    key, cells = (cell.variant, cell.seed), params.cells
    return cells.index(key) if key in cells else len(cells), cell.name


def _numbers(name: str) -> set[int]:
    """The versions that the own store has of a registered model."""
    store.connect(name)
    return {version.number for version in versions.versions(mlflow.MlflowClient(), name)}


def _rebuild(cell: TrainedCell, history: pd.DataFrame, number: int | None) -> bool:
    """Rebuild the cell's run if the store has none, and complete it by the cell's evaluation if there is one.

    `number`: that which its version had.
    """
    run_id, missing = runs.find_run(cell), False
    if run_id is None:
        with locked_checkpoint(cell.fingerprint, cell.name):
            run_id = runs.find_run(cell)  # that of a training which has just ended
            missing = run_id is None
            if run_id is None:
                print(f"{cell.name}: no run; rebuilding it from {cell.model_folder} ...", flush=True)
                runtime.start(cell.seed, cell.precision)  # it predicts nothing; several cells may have other threads
                from car_or_truck.tracking import training

                run_id = training.rebuild(cell, history)
    runs.refuse_lost(run_id)
    evaluation = read_evaluation(cell)
    if evaluation is None:
        if (cell.report_folder / "evaluation.json").is_file():
            print(f"{cell.name}: its evaluation belongs to an earlier training. Run `dvc repro`.", flush=True)
    else:
        name, complete = names.experiment_name(cell.stand_in), runs.is_evaluated(run_id)
        if complete and versions.existing(mlflow.MlflowClient(), name, run_id, ledger.identity(cell)):
            return missing  # a person may have edited its description
        version = (versions.register if complete else versions.record_evaluation)(run_id, cell, evaluation.scores)
        if number not in (None, version.number):  # a version was registered before what was lost came back
            print(f"{cell.name}: what was version {number} is version {version.number} now.", flush=True)
    return missing


def _tell_numbers(name: str, noted: dict[int, dict[str, str]]) -> None:
    """Say what became of the version numbers, when the store had none."""
    if not noted:
        print(
            f"{name}: versions are numbered in the order of params.yaml, because no earlier numbers are known here. "
            f"A models:/{name}/N from elsewhere may mean another model; aliases and promotions are not known either."
        )
        return
    present = _numbers(name)
    lost = [number for number in noted if number not in present]
    labels = [f"{number} ({noted[number]['variant']}-{noted[number]['seed']})" for number in lost[:MOST_LOST]]
    more = f" and {len(lost) - MOST_LOST} more" if len(lost) > MOST_LOST else ""
    remark = f" Not rebuilt, as models/ lacks their models: {', '.join(labels)}{more}." if lost else ""
    print(f"{name}: versions have the numbers that they had.{remark}")


def _restore_champion(name: str, emptied: bool) -> None:
    client = mlflow.MlflowClient()
    with store.one_at_a_time("promotion"):
        count = champion.restore(client, name, emptied)
    version = versions.aliases(client, name).get(versions.CHAMPION)
    if count:
        print(f"{name}: the record of promotions is back, {count} in all; champion: {version or 'none'}.")
    elif emptied and version:
        print(f"{name}: the champion is {version} again.")


def _rebuild_comparison(params: Params, rebuilt: bool, emptied: bool) -> None:
    """Rebuild the run of the comparison in reports/ if the store lacks it, and name its challenger.

    The latter also if a registered model was `emptied`.
    """
    path = paths.REPORTS / "comparison.json"
    if not path.is_file():
        if rebuilt:
            print(f"No comparison, as there is no {path}. Run `dvc repro`.")
        return
    summary = files.read_json(path, "Run `dvc repro`.")
    run_id = runs.find_comparison(summary)
    if run_id and not emptied:
        return
    from car_or_truck.compare.comparison import Comparison
    from car_or_truck.registry.challenger import name_challenger
    from car_or_truck.tracking.comparison import log_comparison

    try:
        dataset = read_dataset()
        results, missing = read_results(params, dataset)
        comparison = Comparison.from_results(results, missing, dataset)
    except Failure:
        comparison = None
    # Words, not digits: the last of those differ between processors.
    if comparison is None or any(comparison.summary[key] != summary.get(key) for key in ("trained", "verdict")):
        print(f"The comparison in {paths.REPORTS}/ is not of the models that are here now: run `dvc repro`.")
        return
    if not run_id:
        log_comparison(replace(comparison, summary=summary))
        print(f"The comparison was rebuilt from {paths.REPORTS}/.")
    if store.server() is None:  # it has its aliases
        print(name_challenger(params.promotion, results, dataset))


def _deliver(server: str, trained: set[str]) -> int:
    """Deliver the runs of models and comparisons in the own store; returns how many the server lacked in part.

    What lies in the server's trash stays there, unless its cell is `trained` here, or it is the comparison in reports/.
    """
    if not store.exists():
        return 0
    client = mlflow.MlflowClient(store.own())
    experiment_names = [experiment.name for experiment in client.search_experiments()]
    experiments = [store.connect(name) for name in (names.REAL, names.SYNTHETIC) if name in experiment_names]
    waiting = [
        run
        for tag in ("cell", names.COMPARISON)
        for run in client.search_runs(
            experiments, f"tags.{tag} LIKE '%'", order_by=["attributes.start_time"], max_results=50_000
        )
    ]
    count, present = 0, trained | {runs.present_comparison()}
    for place, run in enumerate(waiting, 1):
        try:
            own = {run.data.tags.get("cell"), run.data.tags.get(names.COMPARISON)} & present
            if not own and delivery.was_removed(run, server):
                continue
            _, was_incomplete = delivery.deliver(run.info.run_id, server)
        except (MlflowException, OSError) as error:
            raise faults.unusable(error, server) from error
        if was_incomplete:
            print(f"{run.info.run_name} (run {place} of {len(waiting)}) delivered.", flush=True)
            count += 1
    return count
