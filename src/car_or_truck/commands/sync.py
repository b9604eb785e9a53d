"""`sync`: rebuild the MLflow runs that the project's own store lacks, and deliver those that the server lacks."""

from __future__ import annotations

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import TrainedCell, read_trained
from car_or_truck.cells.results import read_evaluation
from car_or_truck.registry import versions
from car_or_truck.tracking import delivery, runs, store
from car_or_truck.train import runtime


def sync(independent: bool = False) -> None:
    """Rebuild and deliver what is missing, and say what that was. Repeated, it adds nothing.

    `independent`: first part a copied store from its original, with all that it lacks.
    Raises Failure when the server cannot be reached; what was delivered before stays.
    """
    if independent and not store.make_independent():
        print(f"{store.own()} is independent already.", flush=True)
    folders = sorted(path.parent for path in paths.MODELS.glob("*/*/cell.json"))
    rebuilt = sum(_rebuild(*read_trained(folder.parent.name, int(folder.name))) for folder in folders)
    print(f"{len(folders)} trained models in {paths.MODELS}/: {rebuilt or 'no'} runs had to be rebuilt.", flush=True)
    server = store.server()
    if server:
        print(f"{server}: {_deliver(server) or 'no'} runs had to be delivered.", flush=True)


def _rebuild(cell: TrainedCell, history: pd.DataFrame) -> bool:
    """Rebuild the cell's run if the store has none, and complete it by the cell's evaluation if there is one."""
    run_id = runs.find_run(cell)
    missing = run_id is None
    if run_id is None:
        print(f"{cell.name}: no run; rebuilding it from {cell.model_folder} ...", flush=True)
        runtime.start(cell.seed, cell.precision, cell.threads)
        from car_or_truck.tracking import training

        run_id = training.rebuild(cell, history)
    evaluation = read_evaluation(cell)
    if evaluation is None:
        if (cell.report_folder / "evaluation.json").is_file():
            print(f"{cell.name}: its evaluation belongs to an earlier training. Run `dvc repro`.", flush=True)
    elif runs.is_evaluated(run_id):
        versions.register(run_id, cell, evaluation.scores)
    else:
        versions.record_evaluation(run_id, cell, evaluation.scores)
    return missing


def _deliver(server: str) -> int:
    """Deliver the runs of models and comparisons in the own store; returns how many the server lacked in part."""
    client = mlflow.MlflowClient(store.own())
    known = [experiment.name for experiment in client.search_experiments()]
    experiments = [store.connect(name) for name in (names.REAL, names.SYNTHETIC) if name in known]
    waiting = [
        run
        for tag in ("cell", names.COMPARISON)
        for run in client.search_runs(
            experiments, f"tags.{tag} LIKE '%'", order_by=["attributes.start_time"], max_results=50_000
        )
    ]
    count = 0
    for place, run in enumerate(waiting, 1):
        try:
            _, lacking = delivery.deliver(run.info.run_id, server)
        except (MlflowException, OSError) as error:
            raise store.unusable(error, server) from error
        if lacking:
            print(f"{run.info.run_name} (run {place} of {len(waiting)}) delivered.", flush=True)
            count += 1
    return count
