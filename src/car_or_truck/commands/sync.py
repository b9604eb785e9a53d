"""`car-or-truck sync`: rebuild from DVC's outputs the runs that the store lacks, deliver those that the server does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from car_or_truck import files, paths
from car_or_truck.cells import cell as cells
from car_or_truck.cells import names as labels
from car_or_truck.registry import versions as registry
from car_or_truck.tracking import delivery, runs, store
from car_or_truck.tracking import provenance as trace
from car_or_truck.train import batches, runtime


def sync() -> None:
    """Rebuild and deliver what is lacking, and say what that was; run again, it adds nothing.

    Raises Failure when the server cannot be reached: what was delivered until then stays.
    """
    folders = sorted(path.parent for path in paths.MODELS.glob("*/*/cell.json"))
    rebuilt = sum(_rebuilt(*cells.read(folder.parent.name, int(folder.name))) for folder in folders)
    print(f"{len(folders)} trained cells in {paths.MODELS}/: {rebuilt or 'no'} runs had to be rebuilt.", flush=True)
    server = store.server()
    if server is None:
        return
    delivered = _delivered(server)
    print(f"{server}: {delivered or 'no'} runs had to be delivered.", flush=True)


def _rebuilt(cell: dict[str, Any], history: Any) -> bool:
    """Make the cell's run in the project's own store if it has none, with its evaluation where there is one."""
    found = runs.find_run(cell)
    if found is None:
        print(f"{labels.run_name(cell)}: no run; made from {paths.MODELS}/ ...", flush=True)
        runtime.start(cell["seed"], cell["precision"], cell["threads"])
        import keras

        from car_or_truck.tracking import training as tracking

        net = keras.saving.load_model(paths.model_folder(cell["variant"], cell["seed"]) / "model.keras")
        valid = batches.load(paths.PREPARED, "valid", cell["recipe"].get("image_size"))
        run_id = tracking.rebuild(cell, history, net, valid.images[:1])
    else:
        run_id = found
    evaluated = _evaluation(cell)
    if evaluated is not None:
        if "kept_val_loss" not in mlflow.get_run(run_id).data.metrics:
            runs.log_evaluation(run_id, *evaluated)
            trace.log_results(run_id, cell)
        registry.register(run_id, cell, evaluated[0])
    return found is None


def _evaluation(cell: dict[str, Any]) -> tuple[dict[str, Any], Path] | None:
    """(scores, folder of figures) that `evaluate` wrote for the cell, if it did."""
    folder = paths.report_folder(cell["variant"], cell["seed"])
    if not (folder / "evaluation.json").is_file() or not (folder / "figures").is_dir():
        return None
    return files.read_json(folder / "evaluation.json", "Run `dvc repro`."), folder / "figures"


def _delivered(server: str) -> int:
    """Deliver the cells' and the comparisons' runs of the own store; returns of how many the server lacked any."""
    client = mlflow.MlflowClient(store.own())
    names = [experiment.name for experiment in client.search_experiments() if experiment.name.startswith(labels.NAME)]
    places = [store.connect(name) for name in names]
    found = [
        run
        for tag in ("cell", "comparison")
        for run in client.search_runs(
            places, f"tags.{tag} LIKE '%'", order_by=["attributes.start_time"], max_results=50_000
        )
    ]
    count = 0
    for place, run in enumerate(found, 1):
        try:
            _, added = delivery.deliver(run.info.run_id, server)
        except (MlflowException, OSError) as error:
            raise store.unusable(error, server) from error
        if added:
            print(f"{run.info.run_name} (run {place} of {len(found)}) delivered.", flush=True)
            count += 1
    return count
