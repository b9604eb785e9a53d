"""The progress of running trainings, here and on other machines."""

from __future__ import annotations

import mlflow
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from car_or_truck.errors import Failure
from car_or_truck.tracking import store


class LiveRuns:
    """The running trainings of an experiment in the store that people look at."""

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self.client: mlflow.MlflowClient | None = None

    def accuracies(self) -> dict[str, list[Metric]]:
        """Each running training's validation accuracy, epoch by epoch; {} while there is no store that answers."""
        try:
            self.client = self.client or store.open_store()
            experiment = self.client.get_experiment_by_name(self.experiment)
            if experiment is None:
                return {}
            runs = self.client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
            return {
                run.info.run_name: self.client.get_metric_history(run.info.run_id, "val_binary_accuracy")
                for run in reversed(runs)  # the latest of a name counts
            }
        except (Failure, MlflowException, OSError):
            return {}
