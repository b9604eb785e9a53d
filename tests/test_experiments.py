"""Experiments as people run them: `dvc exp run`, its queue, and a cell again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow
import pytest
from ruamel.yaml import YAML

from helpers.clones import Project
from helpers.nets import EVERYTHING
from helpers.stores import SYNTHETIC, runs

pytestmark = pytest.mark.slow


def test_two_workers_take_experiments_from_the_queue_into_a_store_that_was_not_there(project: Project) -> None:
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", "results")
    (project.root / "mlflow.db").unlink()
    for name, dropout in (("drier", "0.4"), ("wetter", "0.1")):
        project.run("dvc", "exp", "run", "--queue", "-n", name, "-S", f"variants.exercise.head.dropout={dropout}")
    project.run("dvc", "queue", "start", "-j", "2")
    waited_since = time.monotonic()
    while (output := project.run("dvc", "queue", "status")).count("Success") < 2:
        assert "Failed" not in output, output + project.run("dvc", "queue", "logs", "drier", code=None)
        assert time.monotonic() - waited_since < 300, output
        time.sleep(2)
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    runs_by_name = {run.data.tags.get("dvc.exp"): run for run in runs(client) if "dvc.exp" in run.data.tags}
    assert set(runs_by_name) == {"drier", "wetter"}
    for name, run in runs_by_name.items():
        assert run.info.status == "FINISHED", name
        assert run.info.run_name == "exercise-31415"
    assert runs_by_name["drier"].data.params["recipe.head.dropout"] == "0.4"
    table = project.run("dvc", "exp", "show", "--csv")
    assert "drier" in table
    assert "wetter" in table


def test_back_from_an_experiment_the_challenger_is_that_of_the_comparison_again(project: Project) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")

    def challenger() -> str:
        return str(client.get_registered_model(SYNTHETIC).aliases["challenger"])

    before, parameters = challenger(), (project.root / "params.yaml").read_bytes()
    project.edit(lambda tree: tree["variants"]["exercise"].update(epochs=1))
    project.run("dvc", "repro")
    client.set_registered_model_alias(SYNTHETIC, "challenger", "3")  # which the experiment may have found the best
    (project.root / "params.yaml").write_bytes(parameters)
    output = project.run("dvc", "repro")
    assert "Stage 'train@exercise-31415' is cached" in output
    assert f"Challenger: version {before} " in output
    assert challenger() == before


def test_back_from_other_slices_mlflow_has_the_evaluation_that_dvc_restored(project: Project) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")

    def evaluations() -> list[Any]:
        folders = [Path(unquote(urlsplit(run.info.artifact_uri).path)) for run in runs(client)]
        return [json.loads((folder / "trace/metrics.json").read_bytes()) for folder in folders]

    before, parameters = evaluations(), (project.root / "params.yaml").read_bytes()
    project.edit(lambda tree: tree["evaluate"].update(slices=not tree["evaluate"]["slices"]))
    project.run("dvc", "repro")
    assert evaluations() != before
    (project.root / "params.yaml").write_bytes(parameters)
    output = project.run("dvc", "repro")
    assert "Stage 'evaluate@exercise-31415' is cached" in output
    assert evaluations() == before


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_cell_again_leaves_the_lock_as_it_was(precision: str, project: Project) -> None:
    def everything(tree: Any) -> None:
        tree["train"] |= {"precision": precision, "variants": ["everything"]}
        tree["variants"]["everything"] = {**EVERYTHING, "epochs": 3}

    def locked() -> dict[str, Any]:
        return dict(YAML(typ="safe").load(project.root / "dvc.lock")["stages"])

    project.edit(everything)
    project.run("dvc", "repro", "evaluate@everything-31415")
    before = locked()
    stages = ("train@everything-31415", "evaluate@everything-31415")
    assert set(stages) <= set(before)
    project.run("dvc", "repro", "--force", "--single-item", *stages)
    assert locked() == before
