"""The comparison of a finished pipeline, run for real: what is missing, what was dropped, and its MLflow run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from car_or_truck import files, params, pipeline
from car_or_truck.cli.app import console
from car_or_truck.compare import leaderboard
from car_or_truck.errors import Failure
from car_or_truck.evaluate import scores
from car_or_truck.tracking import store as stores
from helpers.clones import Project
from helpers.stores import runs


@pytest.fixture
def compare(client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """`car-or-truck compare` in this process, in a copy of the finished clone; returns what it prints."""

    def run() -> str:
        pipeline.compare(params.load(), console(stderr=False))
        return "".join(capsys.readouterr())

    return run


def comparison(project: Project) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((project.root / "reports/comparison.json").read_text())
    return summary


def test_the_pair_is_told_as_its_predictions_have_it(finished: Project) -> None:
    right = {}
    for variant in ("tutorial", "exercise"):
        table = pd.read_csv(finished.root / f"reports/cells/{variant}/31415/predictions.csv")
        right[variant] = (table["probability"] > 0.5) == (table["label"] == 1)
    output = comparison(finished)
    (pair,), (models,) = output["pairs"], output["models"]
    expected = scores.mcnemar_exact(right[pair["first"]], right[pair["second"]])
    assert pair["difference"] == pytest.approx(right[pair["first"]].mean() - right[pair["second"]].mean())
    assert (models["only_first"], models["only_second"], models["p"]) == (
        expected.only_first,
        expected.only_second,
        expected.p,
    )
    assert pair["seeds"] == [1, 1]
    assert any("not their recipes" in line for line in output["verdict"])
    page = (finished.root / "reports/report.html").read_text()
    for line in [pair["words"], *output["verdict"], *output["overfitting"]]:
        assert line.replace("'", "&#39;") in page


def test_what_dvc_plots_draws_is_complete(finished: Project) -> None:
    folder = finished.root / "reports/plots"
    cells = {"tutorial-31415", "exercise-31415"}
    confusion = pd.read_csv(folder / "confusion.csv")
    assert confusion.groupby("cell")["images"].sum().to_dict() == dict.fromkeys(cells, 40)
    calibration = pd.read_csv(folder / "calibration.csv")
    assert calibration.groupby("cell")["images"].sum().to_dict() == dict.fromkeys(cells, 40)
    roc = pd.read_csv(folder / "roc.csv")
    assert set(roc["cell"]) == cells
    for _, curve in roc.groupby("cell"):
        rates = curve[["false_positive_rate", "true_positive_rate"]]
        assert rates.to_numpy()[[0, -1]].tolist() == [[0, 0], [1, 1]]


@pytest.mark.slow
def test_what_compare_writes_is_a_function_of_what_it_reads(project: Project, empty_database: Path) -> None:
    def read_outputs() -> dict[Path, bytes]:
        reports = project.root / "reports"
        names = ("comparison.*", "metrics.json", "curves.csv", "report.html", "suspects.*", "plots/*")
        return {path: path.read_bytes() for name in names for path in reports.glob(name)}

    before = read_outputs()
    assert len(before) == 5 + 2 + 5
    assert project.run("git", "rev-parse", "HEAD").strip().encode() not in b"".join(before.values())
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", "results")
    times = project.root / ".dvc/tmp/times"
    assert len(list(times.iterdir())) == 2
    shutil.rmtree(times)
    shutil.copyfile(empty_database, project.root / "mlflow.db")
    shutil.rmtree(project.root / "mlruns")
    for path in before:
        path.unlink()
    project.run("car-or-truck", "compare")
    assert read_outputs() == before


def test_times_are_shown_where_they_are_known(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    leaderboard.show(console())
    printed = capsys.readouterr().out
    assert "images/s" in printed
    assert max(map(len, printed.splitlines())) <= 100
    shutil.rmtree(project.root / ".dvc/tmp/times")
    leaderboard.show(console())
    assert "images/s" not in capsys.readouterr().out


@pytest.mark.usefixtures("standing_in_finished")
def test_the_leaderboard_explains_its_columns_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    leaderboard.show(console(), explain=True)
    explained = " ".join(capsys.readouterr().out.split())
    for part in (
        "accuracy: of the saved weights on 40 validation images.",
        "gap: accuracy of the saved weights on train minus that on validation",
        "overfits: Strong: a gap of at least 10 points",
        "do not differ significantly on these 40 images",
        "time, images/s: of the training",
    ):
        assert part in explained, part
    leaderboard.show(console())
    assert "Wilson" not in capsys.readouterr().out


def test_a_report_of_another_version_is_made_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    files.write_json(Path("reports/comparison.json"), {"data": {}, "verdict": [], "pairs": [], "overfitting": []})
    with pytest.raises(Failure, match=r"comparison.json has no changes, trained. Run `dvc repro compare`."):
        leaderboard.show(console())


@pytest.mark.parametrize("length", [0, 60])
def test_a_table_that_is_cut_off_is_named_with_the_way_out(
    length: int, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    table = Path("reports/comparison.csv")
    table.write_bytes(table.read_bytes()[:length])
    with pytest.raises(Failure, match=r"^reports/comparison.csv cannot be read \(.*\). Run `dvc repro compare`."):
        leaderboard.show(console())


def test_the_table_has_the_accuracy_and_the_gap_of_each_evaluation(finished: Project) -> None:
    table = pd.read_csv(finished.root / "reports/comparison.csv").set_index("variant")
    output = comparison(finished)
    for variant in ("tutorial", "exercise"):
        row = table.loc[variant]
        evaluation = json.loads((finished.root / f"reports/cells/{variant}/31415/evaluation.json").read_text())
        for name in ("val_binary_accuracy", "generalization_gap"):
            assert row[name] == evaluation[name]
        interval = evaluation["val_accuracy_low"], evaluation["val_accuracy_high"]
        assert (row["interval_low"], row["interval_high"]) == interval
    best = output["pairs"][0]["first"]
    assert f"{100 * table.loc[best, 'val_binary_accuracy']:.1f}% accuracy on 40 validation" in output["verdict"][0]


def test_the_comparison_is_one_run_in_mlflow_and_stays_one(
    client: mlflow.MlflowClient, compare: Callable[[], str]
) -> None:
    (run,) = runs(client, of_cells=False)
    assert run.info.run_name == "comparison"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["compared_cells"] == 2
    assert "dvc.stage" in run.data.tags
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "comparison.csv", "loss.png", "differences.png", "cost.png"} <= artifacts
    assert "comparison: FINISHED" not in compare()
    assert len(runs(client, of_cells=False)) == 1


def test_cells_that_are_missing_or_stale_are_shown_as_such(project: Project, compare: Callable[[], str]) -> None:
    def more(tree: Any) -> None:
        tree["train"]["seeds"] = [31415, 7]
        tree["variants"]["exercise"]["head"]["dropout"] = 0.3

    project.edit(more)
    shutil.copytree(project.root / "models/tutorial/31415", project.root / "models/tutorial/7")
    printed = compare()
    output = comparison(project)
    assert [(cell["variant"], cell["seed"], cell["why"]) for cell in output["missing"]] == [
        ("tutorial", 7, "is not trained"),  # a copy of another cell is none
        ("exercise", 31415, "was trained with other parameters than params.yaml has now"),
        ("exercise", 7, "is not trained"),
    ]
    assert output["pairs"] == []
    assert output["verdict"][0].startswith("tutorial is the only variant compared: ")
    assert "exercise-7 is missing: it is not trained." in " ".join(printed.split())
    table = pd.read_csv(project.root / "reports/comparison.csv")
    assert list(table["status"].eq("compared")) == [True, False, False, False]
    assert pd.read_csv(project.root / "reports/curves.csv")["cell"].unique() == ["tutorial-31415"]
    page = (project.root / "reports/report.html").read_text()
    assert page.count(">missing<") == 2 * 3  # in both tables


def test_the_accuracy_on_a_test_split_has_a_column(project: Project, compare: Callable[[], str]) -> None:
    path = project.root / "reports/cells/tutorial/31415/evaluation.json"
    files.write_json(path, json.loads(path.read_text()) | {"test_binary_accuracy": 0.125})
    printed = compare()
    assert re.search(r"^ variant .* test ", printed, re.MULTILINE)
    assert re.search(r"^ tutorial.* 12\.5% ", printed, re.MULTILINE)
    assert "accuracy on test, on which the gates judge" in (project.root / "reports/report.html").read_text()


@pytest.mark.parametrize(
    ("store", "warning"),
    [
        ("http://me:secret@127.0.0.1:9", "server http://***@127.0.0.1:9 did not take this run"),
        pytest.param("sqlite:////dev/null/mlflow.db", "MLflow has no run of this", marks=pytest.mark.slow),
    ],
)
def test_a_store_that_cannot_be_reached_does_not_stop_the_comparison(
    store: str, warning: str, project: Project, compare: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "CHOSEN", store)
    project.edit(lambda tree: tree["train"].update(variants=["exercise"]))  # something new to tell it
    output = compare()
    assert len([line for line in output.splitlines() if warning in line]) == 1
    assert not re.search(r"Traceback|WARNING", output)
    assert ("MLflow has no run of this" in output) != ("MLflow run comparison: FINISHED" in output)
    assert comparison(project)["verdict"][0].startswith("exercise is the only variant compared: ")
    assert "exercise is the only variant compared: " in (project.root / "reports/report.html").read_text()
    assert (project.root / "reports/cells/tutorial/31415").is_dir()  # which was dropped, and does not linger
    for name in ("comparison.csv", "curves.csv", "plots/roc.csv", "plots/confusion.csv", "report.html"):
        assert "tutorial" not in (project.root / "reports" / name).read_text()
