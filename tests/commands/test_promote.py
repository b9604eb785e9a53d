"""`promote` and `rollback` on the registered models of a pipeline that has run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from car_or_truck.cells.cell import read_dataset
from car_or_truck.commands import predict, promote, reproduce
from car_or_truck.errors import Failure
from car_or_truck.registry import loading, versions
from car_or_truck.tracking import runs
from helpers.clones import Project
from helpers.registered import console, evaluate_elsewhere, limits, loose, version
from helpers.stores import SYNTHETIC as NAME


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_model_that_fails_a_gate_is_not_promoted_and_nothing_changes(
    dry_run: bool, client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    before = versions.aliases(client, NAME)
    with pytest.raises(
        Failure, match=r"is not promoted. accuracy is [\d.]+%, must be >= 90.0% \(short by [\d.]+ points\)[.;]"
    ):
        promote.promote(loose(min_accuracy=0.9), "1", console(), dry_run)
    output = capsys.readouterr().out
    assert re.search(r" accuracy +[\d.]+% +>= 90\.0% +FAIL by [\d.]+ points", output)
    assert re.search(r" generalization gap +-?[\d.]+ points +<= 100 points +PASS", output)
    assert "pictures predicted as evaluated" in output
    assert versions.aliases(client, NAME) == before
    assert client.get_experiment_by_name(f"{NAME}-promotions") is None


def test_where_there_is_nothing_to_promote_it_says_so(
    client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    promote.show_history(console())
    assert f"{NAME} has had no champion yet. `car-or-truck promote` makes one." in capsys.readouterr().out
    client.set_registered_model_alias(NAME, "champion", "1")
    promote.promote(loose(), "1", console())
    assert re.search(r"^Version 1 \(\S+\) is already the champion of ", capsys.readouterr().out, re.MULTILINE)
    client.delete_registered_model_alias(NAME, "challenger")
    with pytest.raises(Failure, match=r" has no challenger\. Its champion is version 1 .*`car-or-truck promote N"):
        promote.promote(loose(), None, console())


def test_a_version_whose_files_are_gone_is_told_from_one_without_evaluation(
    client: mlflow.MlflowClient, project: Project
) -> None:
    run_id = versions.find(client, "1").run_id
    runs.refuse_lost(run_id)
    _, model = runs.logged_model(client.get_run(run_id), client)
    assert model
    Path(model.artifact_location.removeprefix("file://"), "data/model.keras").unlink()
    with pytest.raises(Failure, match=r"mlruns/ has lost the files of .*'s run"):
        runs.refuse_lost(run_id)
    shutil.rmtree(project.root / "mlruns")
    with pytest.raises(Failure, match=r"mlruns/ has lost the files of .*'s run\. Move mlflow.db away, too"):
        promote.promote(loose(), "1", console())


def test_a_version_that_a_person_registered_is_never_judged_but_can_be_replaced(client: mlflow.MlflowClient) -> None:
    foreign = str(client.create_model_version(NAME, version(client, "exercise").uri).version)
    with pytest.raises(Failure, match=r"version \d+ of \S+ was registered by hand, without a run"):
        promote.promote(loose(), foreign, console(), force="all the same")
    client.set_registered_model_alias(NAME, "champion", foreign)
    promote.promote(loose(), "1", console(), force="it is known")
    assert versions.aliases(client, NAME)["champion"].number == 1
    with pytest.raises(Failure, match="was registered by hand"):
        promote.rollback(console())
    assert versions.find(client, foreign).synthetic


def test_an_empty_name_is_no_version(client: mlflow.MlflowClient) -> None:
    with pytest.raises(Failure, match="'' is not a version"):
        promote.promote(loose(), "", console(), force="an unset variable")
    with pytest.raises(Failure, match="'' is not a version"):
        reproduce.reproduce("", console())
    assert "champion" not in versions.aliases(client, NAME)


def test_promote_by_force_predict_and_roll_back(
    client: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Failure, match="`car-or-truck promote` makes one"):
        predict.predict(["x.png"], None, predict.Output(), console())
    promote.promote(loose(min_accuracy=1.0), "1", console(), force="the first")
    promote.promote(loose(min_accuracy=1.0), "2", console(), dry_run=True, force="the second")
    assert versions.aliases(client, NAME)["champion"].number == 1
    promote.promote(loose(min_accuracy=1.0), "2", console(), force="the second")
    capsys.readouterr()
    assert {alias: version.number for alias, version in versions.aliases(client, NAME).items()} == {
        "champion": 2,
        "previous": 1,
    }
    picture = str(next((project.root / "data/raw/valid/Car").iterdir()))
    predict.predict([picture], None, predict.Output(), console())
    assert f"Using {NAME} version 2" in capsys.readouterr().out

    client.set_registered_model_alias(NAME, "champion", "1")  # by hand
    predict.predict([picture], None, predict.Output(), console())
    assert f"Using {NAME} version 1" in capsys.readouterr().out
    promote.rollback(console())
    output = capsys.readouterr().out
    assert "moved by hand, from version 2 to version 1" in output
    assert "version 2 (exercise-31415) is the champion again" in output
    promote.show_history(console())
    output = capsys.readouterr().out
    for part in ("rolled back to", "moved by hand", "forced past the gates: the second"):
        assert part in output, part


@pytest.mark.slow
def test_with_a_test_split_set_apart_a_model_is_judged_on_it_alone(
    client: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    client.set_tag(client.get_model_version(NAME, "1").run_id, "selection", "Chosen as the best of 2 models.")
    promote.promote(loose(min_accuracy=0.0), "1", console(), dry_run=True, force="to look")
    assert "Chosen as the best of 2 models." in capsys.readouterr().out

    project.edit(lambda tree: tree["data"].update(test_fraction=0.4))
    project.run("dvc", "repro", "evaluate@tutorial-31415")
    newest = versions.versions(client, NAME)[0]
    client.set_tag(newest.run_id, "selection", "Chosen as the best of 2 models.")
    counts = {split: sum(of_class.values()) for split, of_class in read_dataset().counts.items()}
    assert set(counts) == {"train", "valid", "test"}
    test = pd.read_csv(project.root / "reports/cells/tutorial/31415/test_predictions.csv")
    right = (test["probability"] > 0.5) == (test["label"] == 1)
    decision = promote.judge(limits(), newest, None)
    assert gate(decision, "accuracy").value == pytest.approx(right.mean())
    assert gate(decision, "accuracy").note.endswith(f"on {counts['test']} images")
    assert gate(decision, "largest change of a prediction").passes
    promote.promote(loose(min_accuracy=0.0), str(newest.number), console(), dry_run=True, force="to look")
    assert "Chosen" not in capsys.readouterr().out  # nothing was chosen on test


def gate(decision: Any, name: str) -> Any:
    (only,) = [gate for gate in decision.gates if gate.name == name]
    return only


def test_a_model_whose_bytes_were_changed_does_not_become_champion(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, exercise = loading.served, version(client, "exercise")
    monkeypatch.setattr(loading, "served", lambda _: served(version(client, "tutorial")))
    decision = promote.judge(limits(tolerance=1e-6), exercise, None)
    assert not gate(decision, "largest change of a prediction").passes
    assert not gate(decision, "pictures predicted as evaluated").passes
    monkeypatch.setattr(loading, "served", lambda _: 1 / 0)
    decision = promote.judge(limits(), exercise, None)
    assert not gate(decision, "largest change of a prediction").passes
    assert not gate(decision, "pictures predicted as evaluated").passes
    assert gate(decision, "pictures predicted as evaluated").note == "the model fails: division by zero"


def test_a_model_that_was_evaluated_on_other_images_is_not_judged(client: mlflow.MlflowClient, tmp_path: Path) -> None:
    exercise = version(client, "exercise")
    evaluate_elsewhere(client, exercise.run_id, tmp_path)
    with pytest.raises(Failure, match="was evaluated on other images"):
        promote.judge(limits(), exercise, None)
