"""What another store is told of a run that it has already."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow

from car_or_truck.evaluate.reliability import Reliability
from car_or_truck.tracking import delivery, runs, store
from helpers.clones import Project
from helpers.registered import version


def test_a_delivered_model_gets_what_a_later_evaluation_measured(
    client: mlflow.MlflowClient, project: Project, empty_database: Path, tmp_path: Path
) -> None:
    run_id, there = version(client, "exercise").run_id, f"sqlite:///{tmp_path / 'there.db'}"
    shutil.copyfile(empty_database, tmp_path / "there.db")

    def deliver() -> tuple[str, bool]:
        mlflow.set_tracking_uri(there)  # a store that is a file looks its models up in the current one
        try:
            return delivery.deliver(run_id, there)
        finally:
            mlflow.set_tracking_uri(store.own())

    copy, added = deliver()
    assert added
    remote = mlflow.MlflowClient(there)
    (model,) = remote.get_run(copy).outputs.model_outputs
    kept = Path(remote.get_logged_model(model.model_id).artifact_location.removeprefix("file://"))
    path = project.root / "reports/cells/exercise/31415/reliability.npz"
    assert (kept / "data/reliability.npz").read_bytes() == path.read_bytes()
    assert deliver() == (copy, False)

    measured = Reliability.load(path)
    assert measured
    replace(measured, temperature=1.25).save(path)
    runs.add_reliability(run_id, path)
    assert deliver() == (copy, True)
    assert (kept / "data/reliability.npz").read_bytes() == path.read_bytes()
    assert deliver() == (copy, False)
