"""The whole pipeline on small drawn images: a real git and DVC repository, a real MLflow store."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from car_or_truck import params, pipeline
from car_or_truck.cells.cell import read_trained
from car_or_truck.cli.app import console
from car_or_truck.errors import Failure
from car_or_truck.evaluate.scores import rise_text
from car_or_truck.train.history import METRICS
from helpers.clones import ROOT, Project, copy
from helpers.stores import runs

CELLS = ("tutorial", "exercise")


@pytest.fixture
def client(finished: Project) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{finished.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def edited(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished clone, in which a test edits one file, and restores it."""
    return copy(finished, tmp_path_factory.mktemp("edited") / "project")


def test_a_first_run_says_what_it_does_and_ends_with_the_leaderboard(finished: Project) -> None:
    console = (finished.root / "console.txt").read_text()
    assert "kaggle: out of reach (Connection refused)" in console
    assert "not the real data" in console
    assert re.search(r"^ +2/2 +\d\.\d{4} +\d+\.\d% +\d\.\d{4} +\d+\.\d% +[\d,]+ +0 s", console, re.MULTILINE)
    assert re.search(r"^tutorial-31415: \d+\.\d% on validation, generalization gap [+-]", console, re.MULTILINE)
    _, first = console.split("Accuracy on validation, best first; 1 of 2 models so far")
    assert re.search(r"^ tutorial.* 31415 +\d+\.\d% ", first, re.MULTILINE)
    assert "Running stage 'train@exercise-31415'" in first  # not before the first model is shown
    assert "Accuracy on validation, best first\n" in re.sub(" +\n", "\n", first)
    assert "Warning" not in console
    assert not re.search(r"^[IWE]\d{4} ", console, re.MULTILINE)  # TensorFlow's own log lines


def test_a_model_of_other_images_is_not_evaluated(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    path = Path("data/prepared/dataset.json")
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"arrays": facts["arrays"] | {"valid": "0" * 64}}))
    with pytest.raises(Failure, match=r"^tutorial-31415 was trained on other images than data/prepared holds"):
        pipeline.evaluate(params.load(), "tutorial", 31415, console())


def test_a_second_run_is_up_to_date(finished: Project) -> None:
    assert "Data and pipelines are up to date." in finished.run("dvc", "repro")


def test_git_sees_the_lock_and_the_metrics_and_nothing_else(finished: Project) -> None:
    lines = finished.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert sorted(lines) == ["?? console.txt", "?? dvc.lock", "?? reports/metrics.json"]


def test_dvc_shows_accuracy_and_gap_of_each_variant_in_a_line(finished: Project) -> None:
    table = pd.read_csv(finished.root / "reports/comparison.csv").set_index("variant")
    header, line = finished.run("dvc", "metrics", "show", COLUMNS="120").splitlines()
    metrics = dict(zip(header.split(), line.split(), strict=True))
    for variant in CELLS:
        assert float(metrics[f"{variant}.acc"]) == pytest.approx(table.loc[variant, "val_binary_accuracy"], abs=1e-4)
        assert float(metrics[f"{variant}.gap"]) == pytest.approx(table.loc[variant, "generalization_gap"], abs=1e-4)


def test_metrics_history_and_predictions_tell_the_same_story(finished: Project) -> None:
    for variant in CELLS:
        history = pd.read_csv(finished.root / f"models/{variant}/31415/history.csv")
        report = finished.root / f"reports/cells/{variant}/31415"
        metrics = json.loads((report / "metrics.json").read_text())
        predictions = pd.read_csv(report / "predictions.csv")
        assert list(history.columns) == ["epoch", *METRICS]
        evaluation = json.loads((report / "evaluation.json").read_text())
        assert {name: evaluation[name] for name in metrics} == metrics  # the few that DVC shows, of all
        assert list(history["epoch"]) == list(range(1, evaluation["epochs"] + 1))
        right = (predictions["probability"] > 0.5) == (predictions["label"] == 1)
        assert metrics["val_binary_accuracy"] == right.mean()
        assert metrics["final_val_binary_accuracy"] == pytest.approx(right.mean())  # keep: last
        probability = predictions["probability"].clip(1e-7, 1 - 1e-7)
        likelihood = np.where(predictions["label"] == 1, probability, 1 - probability)
        assert metrics["val_loss"] == pytest.approx(-np.log(likelihood).mean(), rel=1e-6)
        assert metrics["val_loss"] == pytest.approx(history["val_loss"].iloc[-1], rel=1e-5)
        assert len(pd.read_csv(report / "test_predictions.csv")) == 0
        assert len(predictions) == 40
        assert metrics["collapsed"] == (len(set(predictions["probability"] > 0.5)) == 1)


def test_the_comparison_shows_every_cell_and_says_that_the_images_are_synthetic(finished: Project) -> None:
    table = pd.read_csv(finished.root / "reports/comparison.csv")
    assert set(table["variant"]) == set(CELLS)
    curves = pd.read_csv(finished.root / "reports/curves.csv")
    assert curves.groupby("cell").size().to_dict() == {"tutorial-31415": 2, "exercise-31415": 3}
    page = (finished.root / "reports/report.html").read_text()
    assert "Synthetic images, not photographs." in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)  # self-contained
    printed = finished.run("car-or-truck", "leaderboard")
    assert all(variant in printed for variant in CELLS)
    assert "SYNTHETIC images, not photographs" in printed


def test_a_net_that_gives_one_answer_is_flagged_wherever_it_is_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    path = project.root / "reports/cells/tutorial/31415/evaluation.json"
    metrics = json.loads(path.read_text()) | {"collapsed": True}
    path.write_text(json.dumps(metrics))
    pipeline.compare(params.load(), console())
    printed = capsys.readouterr().out
    assert "tutorial*" in printed
    assert "* collapsed: it gives the same answer to every image." in printed
    assert "tutorial*" in (project.root / "reports/report.html").read_text()


def test_the_runs_show_what_the_files_say(finished: Project, client: mlflow.MlflowClient, tmp_path: Path) -> None:
    runs_by_name = {run.info.run_name: run for run in runs(client)}
    assert set(runs_by_name) == {f"{variant}-31415" for variant in CELLS}
    for variant in CELLS:
        run = runs_by_name[f"{variant}-31415"]
        cell = json.loads((finished.root / f"models/{variant}/31415/cell.json").read_text())
        history = pd.read_csv(finished.root / f"models/{variant}/31415/history.csv")
        metrics = json.loads((finished.root / f"reports/cells/{variant}/31415/metrics.json").read_text())
        assert run.info.status == "FINISHED"
        for name in METRICS:
            points = client.get_metric_history(run.info.run_id, name)
            assert {point.step: point.value for point in points} == dict(
                zip(history["epoch"], history[name], strict=True)
            )
            assert len(points) == len(history)
        assert not [name for name in run.data.metrics if name.startswith("validation_")]
        assert run.data.metrics["generalization_gap"] == metrics["generalization_gap"]
        assert run.data.metrics["accuracy"] == metrics["val_binary_accuracy"]
        scalars = set(run.data.metrics) - set(METRICS)
        assert len(scalars) <= 14
        assert {"accuracy_low", "accuracy_high", "overfit_epoch", "parameters", "training_seconds"} <= scalars
        assert run.data.params["train.batch_size"] == "16"
        assert run.data.params["recipe.head.units"] == "6"
        assert {name.partition(".")[0] for name in run.data.params} == {"recipe", "train", "data"}
        tags = run.data.tags
        assert (tags["cell"], tags["variant"], tags["seed"]) == (cell["cell"], variant, "31415")
        assert tags["data.source"] == "rendered"
        assert tags["dvc.stage"] == f"train@{variant}-31415"
        assert tags["git.commit"] == finished.run("git", "rev-parse", "HEAD").strip()
        datasets = {item.dataset.name: item.dataset for item in run.inputs.dataset_inputs}
        assert set(datasets) == {"rendered-train", "rendered-valid"}
        for split in ("train", "valid"):
            described = datasets[f"rendered-{split}"]
            profile = {"images": 40, **cell["data"]["counts"][split], "pixels": "32 x 32"}
            assert json.loads(described.profile) == profile
            assert described.digest == cell["data"]["arrays"][split][:8]
            assert '"shape": [-1, 32, 32, 3]' in described.schema
        artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"figures", "images", "model_summary.txt", "trace"} <= artifacts
        grids = {item.path.partition("+")[0] for item in client.list_artifacts(run.info.run_id, "images")}
        assert grids == {"images/learning_curves", "images/mistakes", "images/grad_cam"}
        evaluation = client.download_artifacts(run.info.run_id, "trace/evaluation.json", str(tmp_path))
        slices = pd.read_csv(finished.root / f"reports/cells/{variant}/31415/slices.csv").set_index("slice")
        rest = json.loads(Path(evaluation).read_text())
        assert rest["slice.dark.val_binary_accuracy"] == slices.loc["dark", "accuracy"]
        figures = {item.path for item in client.list_artifacts(run.info.run_id, "figures")}
        figure_names = [
            "learning_curves",
            "confusion",
            "roc",
            "precision_recall",
            "calibration",
            "mistakes",
            "architecture",
            "feature_maps",
            "grad_cam",
        ]
        drawn_twice = {f"figures/{name}.svg" for name in ("learning_curves", "confusion", "architecture")}
        assert {f"figures/{name}.png" for name in figure_names} | drawn_twice | {"figures/summary.txt"} == figures


def test_each_cell_is_one_registered_version_that_says_what_it_takes_and_needs(
    finished: Project, client: mlflow.MlflowClient
) -> None:
    versions = client.search_model_versions("name = 'car-or-truck-rendered'")
    assert {version.tags["variant"] for version in versions} == set(CELLS)
    assert {version.run_id for version in versions} == {run.info.run_id for run in runs(client)}
    for version in versions:
        report = finished.root / f"reports/cells/{version.tags['variant']}/31415/metrics.json"
        metrics = json.loads(report.read_text())
        rise, lowest = metrics["overfit_rise"], metrics["overfit_epoch"]
        ending = f"and then rose by {rise_text(rise)}." if rise > 0 else f"ended at its lowest (epoch {lowest})."
        assert ending in version.description
        assert "rose by 0.00." not in version.description
    mlflow.set_tracking_uri(f"sqlite:///{finished.root / 'mlflow.db'}")
    version = versions[0]
    model = f"models:/{version.name}/{version.version}"
    assert mlflow.models.get_model_info(model).signature.inputs.input_names() == ["image"]
    requirements = mlflow.pyfunc.get_model_dependencies(model)
    assert "tensorflow==" in Path(requirements).read_text()


def test_editing_one_variant_makes_only_its_cells_stale(project: Project) -> None:
    def more_dropout(tree: Any) -> None:
        tree["variants"]["exercise"]["head"]["dropout"] = 0.3

    project.edit(more_dropout)
    assert project.stale() == {"train@exercise-31415"}


def test_editing_a_base_makes_its_heirs_stale(project: Project) -> None:
    path = project.root / "params.yaml"
    text = path.read_text()
    text = text.replace("  tutorial:\n", "  tutorial: &base\n")
    text = text.replace("  exercise:\n", "  exercise:\n    <<: *base\n")
    before, after = text.split("    <<: *base\n")
    path.write_text(before + "    <<: *base\n" + after.replace("    shuffle: once\n    keep: last\n", "", 1))
    assert project.stale() == set()  # the same recipes, written shorter
    path.write_text(path.read_text().replace("    keep: last\n", "    keep: best\n", 1))
    assert project.stale() == {"train@tutorial-31415", "train@exercise-31415"}


TRAIN, EVALUATE = (
    {f"{stage}@{variant}-31415" for variant in ("tutorial", "exercise")} for stage in ("train", "evaluate")
)


@pytest.mark.parametrize(
    ("files", "stale"),
    [
        ("drawing.py", {"prepare", *EVALUATE, "compare"}),
        ("fetch/sources.py", {"fetch", "prepare"}),
        ("prepare/images.py", {"prepare"}),
        ("train/versions.txt", {*TRAIN, *EVALUATE, "compare"}),
        ("evaluate/scores.py", {*EVALUATE, "compare"}),
        ("compare/templates/report.html.j2", {"compare"}),
        ("cells/results.py", {"compare"}),
        ("tracking/progress.py registry/serving.py commands/predict.py pipeline.py files.py cli/look.py", set()),
    ],
)
def test_editing_code_makes_stale_only_what_it_can_change(files: str, stale: set[str], edited: Project) -> None:
    before = {}
    for name in files.split():
        path = edited.root / "src/car_or_truck" / name
        before[path] = path.read_bytes()
        path.write_bytes(before[path] + b"# edited\n")
    try:
        assert edited.stale() == stale
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def test_editing_a_parameter_makes_stale_only_what_it_can_change(project: Project) -> None:
    project.edit(lambda tree: tree["promotion"].update(min_accuracy=0.1))
    assert project.stale() == {"compare"}
    project.edit(lambda tree: tree["promotion"].update(min_accuracy=0.7))
    project.edit(lambda tree: tree["train"].update(batch_size=8))
    assert project.stale() == TRAIN  # an evaluation uses the batch size that its model was trained with
    project.edit(lambda tree: tree["train"].update(batch_size=16))
    project.edit(lambda tree: tree["evaluate"].update(slices=False))
    assert project.stale() == EVALUATE


@pytest.mark.slow
def test_an_experiment_changes_one_variant_and_shows_in_the_projects_own_store(project: Project) -> None:
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", "results")
    output = project.run("dvc", "exp", "run", "-n", "more-dropout", "-S", "variants.exercise.head.dropout=0.5")
    assert set(re.findall(r"Running stage '([^']+)'", output)) == {
        "train@exercise-31415",
        "evaluate@exercise-31415",
        "compare",
    }
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    newest = runs(client)[-1]
    assert newest.data.params["recipe.head.dropout"] == "0.5"
    assert newest.data.tags["dvc.exp"] == "more-dropout"
    command = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("dvc exp show"))
    table = project.run(*shlex.split(command, comments=True), "--no-pager", COLUMNS="120")
    row = next(line for line in table.splitlines() if "[more-dropout]" in line)
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert [float(number) for number in row.split()[-4:]] == [
        value for variant in metrics.values() for value in variant.values()
    ]
    assert "Experiment" in table
    project.run("git", "checkout", "params.yaml")
    assert "Running stage 'train" not in project.run("dvc", "repro")
    assert project.stale() == set()


def test_adding_a_variant_makes_stale_only_what_it_needs(project: Project) -> None:
    def another(tree: Any) -> None:
        tree["variants"]["mine"] = {
            "blocks": [{"filters": 4}],
            "head": {"units": 2},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "epochs": 1,
        }
        tree["train"]["variants"] = ["exercise", "mine"]

    project.edit(another)
    assert project.stale() == {"train@mine-31415", "evaluate@mine-31415", "compare"}


@pytest.mark.slow
def test_running_a_cell_again_leaves_the_lock_and_fills_a_store_that_was_deleted(project: Project) -> None:
    before = (project.root / "dvc.lock").read_text()
    (project.root / "mlflow.db").unlink()
    project.run("dvc", "repro", "--force", "--single-item", "evaluate@exercise-31415")
    assert (project.root / "dvc.lock").read_text() == before
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    (run,) = runs(client)
    history = pd.read_csv(project.root / "models/exercise/31415/history.csv")
    points = client.get_metric_history(run.info.run_id, "val_loss")
    assert [point.value for point in points] == list(history["val_loss"])
    assert run.data.tags["rebuilt"] == "true"
    assert len(client.search_model_versions("name = 'car-or-truck-rendered'")) == 1


def test_a_slip_in_the_parameters_stops_before_any_work(project: Project) -> None:
    def slip(tree: Any) -> None:
        tree["variants"]["exercise"]["head"]["dropuot"] = 0.3

    project.edit(slip)
    output = project.run("dvc", "repro", code=None)
    assert "variants.exercise.head.dropuot is an unknown key; did you mean 'dropout'?" in output
    assert "epoch" not in output
    assert "Traceback" not in output


def test_a_variant_that_is_not_defined_stops_before_any_work(project: Project) -> None:
    project.edit(lambda tree: tree["train"].update(variants=["tutorial", "excercise"]))
    output = project.run("dvc", "repro", code=255)  # DVC itself notices, before it runs the stage
    assert "Parameters 'variants.excercise' are missing from 'params.yaml'" in output
    assert "epoch" not in output


@pytest.mark.slow
def test_a_dead_tracking_server_costs_a_warning_and_nothing_else(project: Project) -> None:
    path = project.root / "models/exercise/31415/history.csv"
    untroubled = path.read_bytes()
    path.unlink()
    output = project.run("car-or-truck", "train", "exercise", "31415", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert output.count("The tracking server http://127.0.0.1:9 did not take this run") == 1
    assert "`car-or-truck sync` delivers it later" in output
    assert path.read_bytes() == untroubled


@pytest.mark.slow
def test_a_loss_that_is_no_number_marks_the_run_failed_and_registers_nothing(project: Project) -> None:
    def wild(tree: Any) -> None:
        tree["variants"]["tutorial"]["optimizer"] = {"name": "adam", "learning_rate": 3e38}

    project.edit(wild)
    output = project.run("car-or-truck", "train", "tutorial", "31415", code=1)
    assert "Training diverged in epoch" in output
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    assert sorted(run.info.status for run in runs(client)) == ["FAILED", "FINISHED", "FINISHED"]
    assert len(client.search_model_versions("name = 'car-or-truck-rendered'")) == 2


def test_a_model_is_not_kept_under_parameters_that_changed_while_it_trained(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    cell, _ = read_trained("exercise", 31415)
    pipeline._refuse_changes(cell)
    project.edit(lambda tree: tree["variants"]["tutorial"].update(epochs=50))  # another variant's do not matter
    pipeline._refuse_changes(cell)
    project.edit(lambda tree: tree["variants"]["exercise"].update(epochs=51))
    with pytest.raises(Failure, match=r"changed while exercise-31415 trained, so it is not kept\. Undo the change"):
        pipeline._refuse_changes(cell)
