"""Which of the compared models stands for promotion, in the store of a pipeline that has run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from car_or_truck import params
from car_or_truck.cells.cell import read_dataset
from car_or_truck.commands import promote
from car_or_truck.errors import Failure
from car_or_truck.registry import gates, loading, versions
from car_or_truck.registry.challenger import name_challenger
from car_or_truck.registry.gates import Decision
from car_or_truck.tracking import store
from helpers.clones import Project
from helpers.registered import console, evaluate_elsewhere, limits, predicting, results, rewrite_trace, version
from helpers.stores import SYNTHETIC as NAME


def named(**changes: float) -> str:
    """The line of `compare` about the challenger."""
    return name_challenger(limits(**changes), results(), read_dataset())


def test_the_most_accurate_that_passes_the_gates_is_the_challenger_until_it_is_champion(
    client: mlflow.MlflowClient, project: Project
) -> None:
    table = predicting(project, "exercise", 38)
    predicting(project, "tutorial", 36)
    exercise = version(client, "exercise")
    rewrite_trace(client, exercise.run_id, "predictions.csv", table.to_csv(index=False))

    line = named()
    assert line.startswith(f"Challenger: {exercise} of {NAME}, 95.00% accurate: the best of 2 that pass the gates")
    line = named(min_accuracy=0.99)
    assert "it would not be promoted: accuracy is 95.0%, must be >= 99.0% (short by 4 points)" in line
    assert versions.aliases(client, NAME)["challenger"].number == exercise.number

    selection = versions.selection(client, versions.find(client, "challenger"))
    assert selection.startswith(
        "Chosen as the best of 2 models on these same images, exercise-31415 is optimistically biased by "
    )
    described = client.get_model_version(NAME, str(exercise.number))
    assert selection in described.description
    client.update_model_version(NAME, str(exercise.number), "A person's words.")
    named()  # by the same models
    assert client.get_model_version(NAME, str(exercise.number)).description == "A person's words."
    (exercise_result,) = [result for result in results() if result.variant == "exercise"]
    renewed_version = versions.register(exercise.run_id, exercise_result.cell, exercise_result.scores)
    assert renewed_version == versions.find(client, "challenger")  # an evaluation renews the card, and keeps that in it
    assert selection in client.get_model_version(NAME, str(exercise.number)).description

    client.set_registered_model_alias(NAME, "champion", str(exercise.number))
    line = named()
    assert line.startswith(f"No challenger: the champion, {exercise}, has 95.00%; the best other is version ")
    assert line.endswith("(tutorial-31415) with 90.00%.")
    assert "challenger" not in versions.aliases(client, NAME)


def test_a_compared_model_that_is_not_registered_is_named(client: mlflow.MlflowClient) -> None:
    assert "Not registered" not in named()
    client.delete_model_version(NAME, str(version(client, "exercise").number))
    assert named().endswith("Not registered: exercise-31415; `car-or-truck sync` registers them.")


def test_a_challenger_is_chosen_from_the_champion_and_those_that_lost_too(
    client: mlflow.MlflowClient, project: Project
) -> None:
    table = predicting(project, "tutorial", 36)
    predicting(project, "exercise", 38)
    tutorial, exercise = version(client, "tutorial"), version(client, "exercise")
    rewrite_trace(client, tutorial.run_id, "predictions.csv", table.to_csv(index=False))
    client.set_registered_model_alias(NAME, "champion", str(tutorial.number))
    assert named(margin=1.0).startswith(f"Challenger: {exercise} of {NAME}")
    words = "Chosen as the best of 2 models on these same images, exercise-31415 is optimistically biased by "
    assert versions.selection(client, exercise).startswith(words)


def test_a_model_that_fails_a_gate_gives_way_to_a_less_accurate_one_that_passes(
    client: mlflow.MlflowClient, project: Project
) -> None:
    predicting(project, "exercise", 38)
    predicting(project, "tutorial", 36)
    path = project.root / "reports/cells/exercise/31415/evaluation.json"
    text = path.read_text()
    before = results()[1].scores["generalization_gap"]
    assert f'"generalization_gap": {before}' in text
    path.write_text(text.replace(f'"generalization_gap": {before}', '"generalization_gap": 0.9'))
    line = named(max_gap=0.8)
    assert line.startswith(f"Challenger: {version(client, 'tutorial')} of {NAME}, 90.00% accurate: the only one")
    client.set_registered_model_alias(NAME, "champion", str(version(client, "tutorial").number))
    words = f"; {version(client, 'exercise')} with 95.00% does not pass: generalization gap is 90 points"
    assert words in named(max_gap=0.8)


@pytest.mark.parametrize("lost", ["tutorial", "tutorial/31415/model.keras"])
def test_with_one_model_lost_the_best_of_the_others_is_still_named(
    lost: str, client: mlflow.MlflowClient, project: Project
) -> None:
    predicting(project, "exercise", 38)
    (project.root / "models" / lost).rename(project.root / "lost")
    line = named()
    assert line.startswith(f"Challenger: {version(client, 'exercise')} of {NAME}, 95.00% accurate: the only one")
    assert versions.aliases(client, NAME)["challenger"].number == version(client, "exercise").number


def test_a_colleagues_version_of_the_same_cell_with_other_bytes_is_not_taken_for_the_measured_one(
    client: mlflow.MlflowClient, project: Project
) -> None:
    predicting(project, "exercise", 38)
    measured = version(client, "exercise")
    tags = {**measured.tags, "model.sha256": "of another processor"}
    theirs = client.create_model_version(NAME, measured.uri, measured.run_id, tags, description="Theirs.")
    assert named().startswith(f"Challenger: {measured} of {NAME}, 95.00% accurate")
    assert versions.aliases(client, NAME)["challenger"].number == measured.number
    assert client.get_model_version(NAME, theirs.version).description == "Theirs."


def test_a_champion_evaluated_on_other_images_is_asked_anew_and_the_promotion_agrees(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, rival = version(client, "exercise"), version(client, "tutorial")
    client.set_registered_model_alias(NAME, "champion", str(champion.number))
    expected = promote.judge(limits(), rival, champion)
    evaluate_elsewhere(client, champion.run_id, tmp_path)

    decisions: list[Decision] = []
    judge = gates.judge

    def recorded(*arguments: object) -> Decision:
        decisions.append(judge(*arguments))  # type: ignore[arg-type]
        return decisions[-1]

    monkeypatch.setattr(gates, "judge", recorded)
    named()
    by_challenger = decisions[[result.variant for result in results()].index("tutorial")]
    by_promotion = promote.judge(limits(), rival, champion)
    assert by_promotion == expected  # of the champion's own evaluation, which was on these images
    assert by_promotion.gates[: len(by_challenger.gates)] == by_challenger.gates


def test_a_champion_of_other_classes_is_said_in_one_line(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, dataset = version(client, "exercise"), read_dataset()
    client.set_registered_model_alias(NAME, "champion", str(champion.number))
    evaluate_elsewhere(client, champion.run_id, tmp_path)
    others = dataset.model_copy(update={"classes": ("Cat", "Dog")})
    message = (
        f"The champion, {champion}, tells Car from Truck; the images in data/prepared show Cat and Dog. "
        "To start anew, remove its alias champion in the MLflow UI and promote a version by its number."
    )
    assert name_challenger(limits(), results(), others) == f"No challenger was named: {message}"
    monkeypatch.setattr(promote, "read_dataset", lambda: others)
    with pytest.raises(Failure) as caught:
        promote.judge(limits(), version(client, "tutorial"), champion)
    assert str(caught.value) == message


def test_a_champion_that_fails_on_the_images_is_said_in_one_line(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = version(client, "exercise")
    client.set_registered_model_alias(NAME, "champion", str(champion.number))
    evaluate_elsewhere(client, champion.run_id, tmp_path)
    monkeypatch.setattr(loading, "classifier", lambda _: SimpleNamespace(classes=["Car", "Truck"]))  # of other code
    line = named()
    assert line.startswith(f"No challenger was named: The champion, {champion}, cannot predict the validation images: ")
    assert line.endswith("in the MLflow UI and promote a version by its number.")
    assert "\n" not in line


def test_a_version_whose_run_was_deleted_is_no_candidate(client: mlflow.MlflowClient, project: Project) -> None:
    predicting(project, "exercise", 38)
    best = version(client, "exercise")
    client.delete_run(best.run_id)
    assert named().startswith(f"Challenger: {version(client, 'tutorial')} of {NAME}")
    with pytest.raises(Failure, match=re.escape(str(best))):
        promote.promote(params.load(), str(best.number), console())


def test_who_may_not_name_a_challenger_is_told_who_can_permit_it(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", refuse)
    client.delete_registered_model_alias(NAME, "challenger")
    line = named()
    assert re.match(r"No challenger was named: .* may not name a challenger on .* docs/team.md\.$", line)


def test_a_comparison_without_a_store_says_so_and_goes_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(store, "CHOSEN", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    line = name_challenger(params.load().promotion, results(), read_dataset())
    assert line.startswith("No challenger was named: The MLflow store http://127.0.0.1:9 cannot be used")
    assert "\n" not in line
