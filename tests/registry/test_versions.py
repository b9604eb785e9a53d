"""The registered versions of a pipeline that has run: cards, tags, names."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import RestException

from car_or_truck.cells.cell import read_trained
from car_or_truck.cells.results import read_evaluation
from car_or_truck.errors import Failure
from car_or_truck.evaluate.reliability import FEWEST, TYPICAL, Reliability, conformal_quantile
from car_or_truck.evaluate.stage import score
from car_or_truck.prepare.images import png_base64
from car_or_truck.registry import ledger, versions
from car_or_truck.registry.card import card
from car_or_truck.tracking import provenance, runs, training
from helpers.cells import HISTORY, cell, dataset, predictions, trained
from helpers.clones import Project
from helpers.nets import recipe
from helpers.registered import version
from helpers.stores import NAME as REAL
from helpers.stores import SYNTHETIC as NAME
from helpers.stores import Store


def test_a_version_says_what_it_is_and_where_it_comes_from(client: mlflow.MlflowClient, project: Project) -> None:
    registered = version(client, "exercise")
    metrics = json.loads((project.root / "reports/cells/exercise/31415/metrics.json").read_text())
    model = project.root / "models/exercise/31415/model.keras"
    assert registered.tags == {  # a promotion adds one
        "accuracy": f"{metrics['val_binary_accuracy']:.4f}",
        "generalization_gap": f"{metrics['generalization_gap']:.4f}",
        "variant": "exercise",
        "seed": "31415",
        "data.source": "rendered",
        "cell": read_trained("exercise", 31415)[0].fingerprint,
        "model.sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    }
    card = client.get_model_version(NAME, str(registered.number)).description
    for part in (
        "tells Car from Truck, with 253,133 parameters",
        "40 images of the source `rendered`",
        f"{100 * metrics['val_binary_accuracy']:.1f}% of 40 validation images (95% CI ",
        "Trained on synthetic images: do not trust it on photographs.",
        f"car-or-truck predict photo.jpg --model models:/{NAME}/{registered.number}",
    ):
        assert part in card, part
    run = client.get_run(registered.run_id)
    assert run.data.tags["mlflow.note.content"] == f"{versions.link(NAME, registered.number)}\n\n{card}"


def test_a_logged_model_has_its_name_its_version_and_its_metrics(client: mlflow.MlflowClient) -> None:
    registered = version(client, "exercise")
    run = client.get_run(registered.run_id)
    model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert model.name == "exercise-31415"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": registered.number}]
    (valid,) = [item.dataset for item in run.inputs.dataset_inputs if item.dataset.name == "rendered-valid"]
    measured = {metric.key: metric for metric in model.metrics if metric.dataset_name}
    assert {"accuracy", "roc_auc", "generalization_gap"} <= set(measured)
    for name, metric in measured.items():
        assert metric.value == run.data.metrics[name]
        assert (metric.dataset_name, metric.dataset_digest) == (valid.name, valid.digest)


def test_the_registered_model_is_the_output_itself_and_loads_in_both_flavours(
    client: mlflow.MlflowClient, project: Project, tmp_path: Path
) -> None:
    import mlflow.pyfunc
    import mlflow.tensorflow

    registered = version(client, "exercise")
    path = mlflow.artifacts.download_artifacts(f"{registered.uri}/data/model.keras", dst_path=str(tmp_path))
    assert Path(path).read_bytes() == (project.root / "models/exercise/31415/model.keras").read_bytes()
    net = mlflow.tensorflow.load_model(registered.uri)
    images = np.load(project.root / "data/prepared/valid/images.npy")
    expected = pd.read_csv(project.root / "reports/cells/exercise/31415/predictions.csv")["probability"]
    np.testing.assert_allclose(net.predict(images / np.float32(255), verbose=0)[:, 0], expected, atol=1e-3)
    rows = pd.DataFrame({"image": [png_base64(image) for image in images]})
    served = mlflow.pyfunc.load_model(registered.uri).predict(rows)
    np.testing.assert_allclose(served["probability"], expected, atol=1e-3)


def test_the_registered_model_carries_what_its_evaluation_measured(
    client: mlflow.MlflowClient, project: Project, tmp_path: Path
) -> None:
    registered = version(client, "exercise")
    folder = Path(mlflow.artifacts.download_artifacts(registered.uri, dst_path=str(tmp_path)))
    measured = project.root / "reports/cells/exercise/31415/reliability.npz"
    assert (folder / "data" / "reliability.npz").read_bytes() == measured.read_bytes()
    rows = pd.DataFrame({"image": [png_base64(image) for image in np.load("data/prepared/valid/images.npy")]})
    model = mlflow.pyfunc.load_model(registered.uri)
    answers = model.predict(rows, params={"coverage": 0.8})
    assert [output.name for output in model.metadata.signature.outputs] == list(answers.columns)
    assert answers["confidence"].between(0.5, 1).all()
    assert not answers["unlike"].any()  # 40 validation images are too few for a limit
    table = pd.read_csv(measured.with_name("predictions.csv"))
    truth = np.array(["Car", "Truck"])[table["label"]]
    assert np.mean([label in names for label, names in zip(truth, answers["prediction_set"], strict=True)]) >= 0.8
    assert "prediction_set" not in model.predict(rows)

    (folder / "data" / "reliability.npz").unlink()  # not evaluated yet
    bare = mlflow.pyfunc.load_model(str(folder)).predict(rows)
    assert list(bare.columns) == ["label", "probability", "probability_of"]
    np.testing.assert_allclose(bare["probability"], answers["probability"], atol=1e-3)


def test_a_new_evaluation_replaces_what_an_earlier_one_measured(
    client: mlflow.MlflowClient, project: Project, tmp_path: Path
) -> None:
    registered, (cell, _) = version(client, "exercise"), read_trained("exercise", 31415)
    evaluation = read_evaluation(cell)
    assert evaluation
    path = project.root / "reports/cells/exercise/31415/reliability.npz"
    measured = Reliability.load(path)
    assert measured
    replace(measured, temperature=1.25).save(path)
    assert versions.record_evaluation(registered.run_id, cell, evaluation.scores)
    local_copy = mlflow.artifacts.download_artifacts(f"{registered.uri}/data/reliability.npz", dst_path=str(tmp_path))
    assert Path(local_copy).read_bytes() == path.read_bytes()
    path.unlink()  # an evaluation by earlier code
    assert versions.record_evaluation(registered.run_id, cell, evaluation.scores)


def test_evaluating_again_adds_no_version_and_renews_tags_and_card(client: mlflow.MlflowClient) -> None:
    before, registered = versions.versions(client, NAME), version(client, "exercise")
    cell, _ = read_trained("exercise", 31415)
    evaluation = read_evaluation(cell)
    assert evaluation
    renewed_version = versions.register(registered.run_id, cell, {**evaluation.scores, "val_binary_accuracy": 0.125})
    assert renewed_version
    assert renewed_version.number == registered.number
    assert len(versions.versions(client, NAME)) == len(before)
    assert version(client, "exercise").tags["accuracy"] == "0.1250"
    assert "12.5% of 40 validation images" in client.get_model_version(NAME, str(registered.number)).description


def test_a_version_whose_files_are_lost_is_not_that_of_a_model_trained_again(client: mlflow.MlflowClient) -> None:
    registered, identity = version(client, "exercise"), ledger.identity(read_trained("exercise", 31415)[0])
    assert versions.existing(client, NAME, "another run", identity) == registered
    _, model = runs.logged_model(client.get_run(registered.run_id), client)
    assert model
    shutil.rmtree(model.artifact_location.removeprefix("file://"))
    assert versions.existing(client, NAME, "another run", identity) is None


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow 3.17 with pandas 3
def test_the_evaluation_of_a_model_trained_again_to_the_same_bytes_reaches_the_run_that_the_gates_read(
    client: mlflow.MlflowClient, project: Project
) -> None:
    registered, (cell, history) = version(client, "exercise"), read_trained("exercise", 31415)
    evaluation = read_evaluation(cell)
    assert evaluation
    path = project.root / "reports/cells/exercise/31415/metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"val_binary_accuracy": 0.125}))
    new_id = training.rebuild(cell, history)
    assert versions.record_evaluation(new_id, cell, {**evaluation.scores, "val_binary_accuracy": 0.125}) == registered
    for run_id in (new_id, registered.run_id):
        run = client.get_run(run_id)
        assert run.data.metrics["accuracy"] == 0.125
        assert "12.5% of 40 validation images" in run.data.tags["mlflow.note.content"]
        trace = provenance.read_evaluations(run_id)
        assert trace
        assert trace[1]["valid"].scores["val_binary_accuracy"] == 0.125


def test_the_card_names_the_size_of_the_input_where_it_differs() -> None:
    table, images = predictions([0.1, 0.9] * 5, [0, 1] * 5), dataset(image_size=32)
    scores = score(HISTORY, 2, {"train": table, "valid": table})
    cards = [card(trained(cell("net", images, recipe=recipe(image_size=side))), scores, "uri") for side in (None, 16)]
    assert "letterboxed to 32 pixels; " in cards[0]
    assert "letterboxed to 32 pixels, then scaled to 16; " in cards[1]


@pytest.mark.parametrize(("images", "marks"), [(FEWEST - 1, False), (FEWEST, True)])
def test_the_card_speaks_of_unlike_pictures_where_there_are_images_to_tell_them(images: int, marks: bool) -> None:
    table = predictions([0.1, 0.9] * 5, [0, 1] * 5)
    scores = score(HISTORY, 2, {"train": table, "valid": table})
    counts = {"train": {"Car": 5, "Truck": 3}, "valid": {"Car": 9, "Truck": images - 9}}
    assert (
        "as unlike the training images" in card(trained(cell("net", dataset(counts=counts))), scores, "uri")
    ) == marks
    assert np.isfinite(conformal_quantile(np.zeros(images), TYPICAL)) == marks


@pytest.mark.parametrize(
    "version_name", ["{n}", "models:/{name}/{n}", "challenger", "@challenger", "models:/{name}@challenger"]
)
def test_a_version_is_found_by_all_its_names(version_name: str, client: mlflow.MlflowClient) -> None:
    registered = version(client, "exercise")
    client.set_registered_model_alias(NAME, "challenger", str(registered.number))
    assert versions.find(client, version_name.format(n=registered.number, name=NAME)).number == registered.number


@pytest.mark.parametrize(
    ("version_name", "says"),
    [
        ("99", "has no version '99'. It has 2, 1"),
        ("9" * 20, f"has no version '{'9' * 20}'. It has 2, 1"),
        ("champion", "has no version 'champion'. `car-or-truck promote` makes one. It has 2, 1"),
        ("models:/nothing/1", "nothing has no version '1'"),
        ("runs:/x/model", "'runs:/x/model' is not a version: give 3, champion, models:/NAME/3"),
    ],
)
def test_a_version_that_is_not_there_is_named_with_those_that_are(
    version_name: str, says: str, client: mlflow.MlflowClient
) -> None:
    with pytest.raises(Failure) as caught:
        versions.find(client, version_name)
    assert says in str(caught.value)


def test_the_model_is_the_one_that_the_images_belong_to_or_else_the_one_there_is(
    small_store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert versions.model_name(small_store.client) == REAL
    small_store.client.create_registered_model(NAME)
    assert versions.model_name(small_store.client) == REAL
    shutil.copytree(project.root / "data/prepared", small_store.root / "data/prepared")
    assert versions.model_name(small_store.client) == NAME
    (small_store.root / "dvc.yaml").touch()
    monkeypatch.chdir(small_store.root / "data")
    assert versions.model_name(small_store.client) == NAME


@pytest.mark.parametrize(
    ("code", "says"),
    [("PERMISSION_DENIED", "may not do this on"), ("INTERNAL_ERROR", "cannot be used: INTERNAL_ERROR")],
)
def test_a_store_that_does_not_say_is_not_taken_for_one_that_has_nothing(
    code: str, says: str, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RestException({"error_code": code, "message": "no answer"})

    for name in ("get_registered_model", "get_model_version", "get_model_version_by_alias"):
        monkeypatch.setattr(small_store.client, name, refuse)
    for version_name in ("1", "champion", f"models:/{REAL}/1"):
        with pytest.raises(Failure, match=says):
            versions.find(small_store.client, version_name)
    with pytest.raises(Failure, match=says):
        versions.exists(small_store.client, REAL, "1")
