"""A small MLflow store with a registered model, for tests of what needs no net."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlflow

from car_or_truck import files

NAME = "car-or-truck"
SYNTHETIC = f"{NAME}-rendered"


class Store:
    """A project's folder with a store in it, and what a test needs to fill it."""

    def __init__(self, root: Path, template: Path) -> None:
        self.root = root
        (root / ".dvc").mkdir(parents=True)
        (root / "dvc.yaml").touch()
        shutil.copyfile(template, root / "mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
        self.client = mlflow.MlflowClient()
        self.experiment = self.client.create_experiment(NAME, (root / "mlruns" / NAME).as_uri())
        self.client.create_registered_model(NAME)

    def train(self, cell: str, status: str = "FINISHED", **tags: str) -> str:
        """A run with one artifact and a logged model; returns its id."""
        tags = {"cell": cell, "variant": cell, "seed": "1", **tags}
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=f"{cell}-1").info.run_id)
        self.client.log_text(run_id, "x" * 1000, "trace/text.txt")
        model = self.client.create_logged_model(self.experiment, name="model", source_run_id=run_id)
        folder = self.root / "mlruns" / NAME / "models" / model.model_id / "artifacts"
        folder.mkdir(parents=True)
        for name in ("MLmodel", "data/model.keras"):
            files.write_text(folder / name, "")
        self.client.set_terminated(run_id, status)
        return run_id

    def compare(self, digest: str, status: str = "FINISHED") -> str:
        """A run of a comparison with its report; returns its id."""
        run = self.client.create_run(self.experiment, tags={"comparison": digest}, run_name="comparison")
        self.client.log_text(run.info.run_id, digest, "report.html")
        self.client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    def register(self, cell: str, **tags: str) -> int:
        """A version of a new run; returns its number."""
        run_id = self.train(cell, **tags)
        (model,) = [
            model for model in self.client.search_logged_models([self.experiment]) if model.source_run_id == run_id
        ]
        tags = {"cell": cell, "variant": cell, "seed": "1", **tags}
        version = self.client.create_model_version(
            NAME, f"models:/{model.model_id}", run_id, tags=tags, model_id=model.model_id
        )
        return int(version.version)

    def alias(self, alias: str, number: int) -> None:
        """What a person does in the UI."""
        self.client.set_registered_model_alias(NAME, alias, str(number))

    @property
    def aliases(self) -> dict[str, int]:
        """Which version has which alias."""
        aliases = self.client.get_registered_model(NAME).aliases
        return {alias: int(number) for alias, number in aliases.items()}


def runs(client: mlflow.MlflowClient, of_cells: bool = True) -> list[Any]:
    """The runs of the cells, or those of the comparisons."""
    experiment = client.get_experiment_by_name("car-or-truck-rendered")
    all_runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return [run for run in all_runs if ("cell" in run.data.tags) == of_cells]
