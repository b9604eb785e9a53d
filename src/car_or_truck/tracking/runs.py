"""A trained model's run in the project's own store: found, and completed.

Quick to import, unlike training.py, which brings TensorFlow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from filecmp import cmp
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from car_or_truck import files, paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell, TrainedCell
from car_or_truck.cells.results import Result
from car_or_truck.errors import Failure
from car_or_truck.tracking import datasets, provenance, relocation, store
from car_or_truck.train.history import METRICS

RELIABILITY = "reliability.npz"  # a file of `evaluate`
# The scores that a run shows beside its curves, by their names there; evaluation.json has all of them.
ON_VALIDATION = {
    "accuracy": "val_binary_accuracy",
    "accuracy_low": "val_accuracy_low",
    "accuracy_high": "val_accuracy_high",
    "roc_auc": "val_roc_auc",
    "calibration_error": "val_expected_calibration_error",
    "generalization_gap": "generalization_gap",
}
OTHERS = {
    "training_gap": "training_gap",
    "overfit_epoch": "overfit_epoch",
    "overfit_rise": "overfit_rise",
    "best_epoch": "best_epoch",
    "best_val_binary_accuracy": "best_val_binary_accuracy",
    "final_val_binary_accuracy": "final_val_binary_accuracy",
    "parameters": "parameters",
    "test_accuracy": "test_binary_accuracy",
}
GRIDS = ("learning_curves", "mistakes", "grad_cam")  # figures that the UI shows side by side across runs


def find_run(cell: TrainedCell) -> str | None:
    """The id of the newest finished run of the model in models/ that is whole, or None.

    Another machine may give the same cell other bytes, which `dvc pull` brings: those are another model.
    """
    experiment = store.connect(names.experiment_name(cell.stand_in))
    runs = mlflow.MlflowClient().search_runs(
        [experiment],
        f"tags.cell = '{cell.fingerprint}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )
    fitting = (run.info.run_id for run in runs if is_whole(run.info.run_id) and not _is_of_others(run, cell))
    return next(fitting, None)


def outdated(results: Sequence[Result]) -> Iterator[tuple[str, Result]]:
    """Compared models with their runs, where these hold another evaluation than reports/.

    DVC may have restored that from its run cache, without running a stage.
    """
    experiment = store.connect(names.experiment_name(results[0].cell.stand_in))
    digests = {result.cell.fingerprint: provenance.evaluation_digest(result.cell) for result in results}
    about = f"tags.`{provenance.EVALUATED}` LIKE '%'"
    evaluated = mlflow.MlflowClient().search_runs([experiment], about, max_results=50_000)
    others = {
        run.info.run_id: run.data.tags["cell"]
        for run in evaluated
        if run.data.tags[provenance.EVALUATED] != digests.get(run.data.tags["cell"])
    }
    for result in results:
        if result.cell.fingerprint in others.values() and (run_id := find_run(result.cell)) in others:
            yield str(run_id), result


def _is_of_others(run: Any, cell: TrainedCell) -> bool:
    """Whether the run's logged model has other bytes than the one in models/; not if its files were lost."""
    place = mlflow.MlflowClient().get_logged_model(model_id(run)).artifact_location
    folder = relocation.local_path(place)
    logged = folder / "data" / "model.keras" if folder else None
    return bool(logged and logged.is_file() and not cmp(logged, cell.model_folder / "model.keras", shallow=False))


def is_evaluated(run_id: str) -> bool:
    """Whether the run has what `log_evaluation` adds today; those of earlier versions of the project lack it."""
    return "accuracy" in mlflow.get_run(run_id).data.metrics


def can_continue(run_id: str | None) -> bool:
    """Whether a training can go on in the run: the store still has it, and it has no model.

    One that was killed while its model was logged may have half of it, and a second would not replace that.
    """
    run = _if_there(mlflow.get_run, run_id) if run_id else None
    return bool(run and run.info.lifecycle_stage == "active" and not run.outputs.model_outputs)


def is_whole(run_id: str) -> bool:
    """Whether the store still has the run, and the model that it logged: people delete either in the UI."""
    client = mlflow.MlflowClient()
    run = _if_there(client.get_run, run_id)
    return bool(run and run.info.lifecycle_stage == "active" and logged_model(run, client)[1])


def was_deleted(run_id: str, client: mlflow.MlflowClient) -> bool:
    """Whether a run, or the model that it logged, was deleted: what is registered of it cannot be loaded."""
    run = _if_there(client.get_run, run_id)
    return run is None or run.info.lifecycle_stage != "active" or logged_model(run, client)[0]


def has_files(run: Any) -> bool:
    """Whether the files of a finished run and of its logged models are there, if they are on this machine."""
    client = mlflow.MlflowClient()
    models = [client.get_logged_model(output.model_id).artifact_location for output in run.outputs.model_outputs]
    places = [(run.info.artifact_uri, f"{provenance.FOLDER}/{provenance.CELL}")]
    places += [(place, name) for place in models for name in ("MLmodel", "data/model.keras")]
    folders = [(relocation.local_path(place), name) for place, name in places]
    return all(folder is None or (folder / name).is_file() for folder, name in folders)


def refuse_lost(run_id: str) -> None:
    """Raise Failure for a finished run whose files are gone."""
    run = mlflow.get_run(run_id)
    if not has_files(run):
        raise Failure(
            f"mlruns/ has lost the files of {run.info.run_name}'s run. Move mlflow.db away, too: `car-or-truck sync` "
            f"then rebuilds runs, versions and champion from {paths.MODELS}/."
        )


def pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All that MLflow finds, page by page; `search` takes the token of a page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def log_epochs(run_id: str, rows: list[dict[str, float]], times: list[float]) -> None:
    """Log the epochs of a history that the run lacks, at their own times where these are known."""
    client, now = mlflow.MlflowClient(), time.time()
    points = []
    for name in METRICS:
        steps = {point.step for point in client.get_metric_history(run_id, name)} if rows else set()
        points += [
            Metric(name, row[name], round(1000 * moment), int(row["epoch"]))
            for row, moment in zip(rows, times or [now] * len(rows), strict=True)
            if int(row["epoch"]) not in steps
        ]
    client.log_batch(run_id, metrics=points)


def find_comparison(summary: dict[str, Any]) -> str | None:
    """The id of the finished run of a comparison, by what comparison.json holds, or None."""
    experiment = store.connect(names.experiment_name(summary["data"]["stand_in"]))
    condition = f"tags.{names.COMPARISON} = '{names.comparison_digest(summary)}' and attributes.status = 'FINISHED'"
    runs = mlflow.MlflowClient().search_runs([experiment], condition, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def present_comparison() -> str:
    """The digest of the comparison in reports/, which its run has as a tag; empty without one."""
    path = paths.REPORTS / "comparison.json"
    return names.comparison_digest(files.read_json(path, "Run `dvc repro compare`.")) if path.is_file() else ""


def log_evaluation(run_id: str, cell: Cell, scores: Mapping[str, Any]) -> None:
    """Add a model's chief scores (a flag or a word becomes a tag) and its figures to its finished run.

    What describes the saved weights on validation belongs to the run's logged model too.
    """
    client, now = mlflow.MlflowClient(), round(1000 * time.time())
    model, valid = model_id(client.get_run(run_id)), datasets.Split(cell.data, "valid")
    metrics = [
        Metric(key, scores[name], now, 0, *about)
        for score_names, about in ((OTHERS, ()), (ON_VALIDATION, (model, valid.name, valid.digest)))
        for key, name in score_names.items()
        if name in scores
    ]
    tags = [
        RunTag(key, str(value).lower())
        for key, value in scores.items()
        if isinstance(value, bool | str) and key != "cell"
    ]
    client.log_batch(run_id, metrics=metrics, tags=tags)
    figures = cell.report_folder / "figures"
    if figures.is_dir():
        client.log_artifacts(run_id, str(figures), "figures")
    for path in (figures / f"{name}.png" for name in GRIDS):
        if path.is_file():
            with Image.open(path) as image:
                client.log_image(run_id, image, key=path.stem)


def add_reliability(run_id: str, path: Path) -> None:
    """Put the file that `evaluate` wrote into the run's logged model, which is as old as the training."""
    client = mlflow.MlflowClient()
    client.log_model_artifact(model_id(client.get_run(run_id)), str(path), "data")


def model_id(run: Any) -> str:
    """The id of the model that a finished training logged."""
    return str(run.outputs.model_outputs[0].model_id)


def logged_model(run: Any, client: mlflow.MlflowClient) -> tuple[bool, Any | None]:
    """A run's logged model: whether it was deleted, which the run does not tell, and MLflow's record of it."""
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        return False, None
    model = _if_there(client.get_logged_model, outputs[0].model_id)
    return model is None, model


def _if_there(get: Callable[[str], Any], key: str) -> Any | None:
    """What `get` gets from the store; None if that does not have it, which a store that is locked does not say."""
    try:
        return get(key)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
