"""The registered versions of a pipeline that has run: cards, tags, challenger; promote, predict and trace them."""

from __future__ import annotations

import csv
import hashlib
import http.server
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from car_or_truck import files, params, paths
from car_or_truck.commands import predict, reproduce
from car_or_truck.commands import promote as promotion
from car_or_truck.errors import Failure
from car_or_truck.registry import challenger
from car_or_truck.registry import versions as registry
from car_or_truck.tracking import provenance as trace
from car_or_truck.tracking import store
from helpers.clones import Project
from helpers.stores import NAME as REAL
from helpers.stores import Store

NAME = "car-or-truck-rendered"


@pytest.fixture
def client(project: Project, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """Of a finished project's store; the test stands in the project."""
    monkeypatch.chdir(project.root)
    return store.open_store()


def loose(**limits: float) -> params.Params:
    """params.yaml with gates that a net trained on forty drawings can pass; but it may have collapsed."""
    loaded = params.load()
    gates = {"min_accuracy": 0.0, "margin": 1.0, "max_gap": 1.0, "max_calibration_worsening": 1.0, **limits}
    return loaded.model_copy(update={"promotion": loaded.promotion.model_copy(update=gates)})


def console() -> Console:
    return Console(width=200)


def version(client: mlflow.MlflowClient, variant: str) -> registry.Version:
    (found,) = [version for version in registry.versions(client, NAME) if version.tags["variant"] == variant]
    return found


def test_a_version_says_what_it_is_and_where_it_comes_from(client: mlflow.MlflowClient, project: Project) -> None:
    found = version(client, "exercise")
    metrics = json.loads((project.root / "reports/cells/exercise/31415/metrics.json").read_text())
    assert found.tags["val_binary_accuracy"] == f"{metrics['val_binary_accuracy']:.4f}"
    assert found.tags["dvc.stage"] == "train@exercise-31415"
    assert found.tags["git.commit"] == project.run("git", "rev-parse", "HEAD").strip()
    model = project.root / "models/exercise/31415/model.keras"
    assert found.tags["model.sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    card = client.get_model_version(NAME, str(found.number)).description
    for part in (
        "tells Car from Truck, with 253,133 parameters",
        "40 images of the source `rendered`",
        f"Accuracy {metrics['val_binary_accuracy']:.4f} on 40 valid images, 95 % interval",
        "of no use on photographs",
        f"car-or-truck predict photo.jpg --model models:/{NAME}/{found.number}",
    ):
        assert part in card, part


def test_the_registered_model_is_the_output_itself_and_loads_in_both_flavours(
    client: mlflow.MlflowClient, project: Project, tmp_path: Path
) -> None:
    import mlflow.pyfunc
    import mlflow.tensorflow

    found = version(client, "exercise")
    path = mlflow.artifacts.download_artifacts(f"{found.uri}/data/model.keras", dst_path=str(tmp_path))
    assert Path(path).read_bytes() == (project.root / "models/exercise/31415/model.keras").read_bytes()
    net = mlflow.tensorflow.load_model(found.uri)
    images = np.load(project.root / "data/prepared/valid/images.npy")
    expected = pd.read_csv(project.root / "reports/cells/exercise/31415/predictions.csv")["probability"]
    np.testing.assert_allclose(net.predict(images / np.float32(255), verbose=0)[:, 0], expected, atol=1e-3)
    rows = pd.DataFrame({"pixels": list(images)})
    served = mlflow.pyfunc.load_model(found.uri).predict(rows)
    np.testing.assert_allclose(served["probability"], expected, atol=1e-3)


def test_evaluating_again_adds_no_version(client: mlflow.MlflowClient) -> None:
    before = registry.versions(client, NAME)
    found = version(client, "exercise")
    cell, _, _ = trace.evaluated(found.run_id) or ({}, {}, None)
    scores = files.read_json(paths.report_folder("exercise", 31415) / "evaluation.json", "")
    again = registry.register(found.run_id, cell, {**scores, "val_binary_accuracy": 0.125})
    assert again
    assert again.number == found.number
    assert len(registry.versions(client, NAME)) == len(before)
    assert version(client, "exercise").tags["val_binary_accuracy"] == "0.1250"
    assert "Accuracy 0.1250" in client.get_model_version(NAME, str(found.number)).description


@pytest.mark.parametrize(
    "wanted", ["{n}", "models:/{name}/{n}", "challenger", "@challenger", "models:/{name}@challenger"]
)
def test_a_version_is_found_by_all_its_names(wanted: str, client: mlflow.MlflowClient) -> None:
    found = version(client, "exercise")
    client.set_registered_model_alias(NAME, "challenger", str(found.number))
    assert registry.find(client, wanted.format(n=found.number, name=NAME)).number == found.number


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("99", "has no version '99'. It has 2, 1"),
        ("champion", "has no version 'champion'. `car-or-truck promote` makes one. It has 2, 1"),
        ("models:/nothing/1", "nothing has no version '1'"),
        ("runs:/x/model", "names no version: give 3, champion, models:/NAME/3"),
    ],
)
def test_a_version_that_is_not_there_is_named_with_those_that_are(
    wanted: str, says: str, client: mlflow.MlflowClient
) -> None:
    with pytest.raises(Failure) as caught:
        registry.find(client, wanted)
    assert says in str(caught.value)


def test_the_model_is_the_one_that_the_images_belong_to_or_else_the_one_there_is(
    small_store: Store, project: Project
) -> None:
    assert registry.model_name(small_store.client) == REAL
    small_store.client.create_registered_model(NAME)
    assert registry.model_name(small_store.client) == REAL
    shutil.copytree(project.root / "data/prepared", small_store.root / "data/prepared")
    assert registry.model_name(small_store.client) == NAME


def predictions(project: Project, variant: str, right: int) -> None:
    """Make a cell's evaluation say that so many of its 40 answers are right."""
    folder = project.root / f"reports/cells/{variant}/31415"
    table = pd.read_csv(folder / "predictions.csv")
    said = np.where(np.arange(len(table)) < right, table["label"], 1 - table["label"])
    table.assign(probability=0.2 + 0.6 * said).to_csv(folder / "predictions.csv", index=False)


def test_the_best_cell_by_the_gates_is_the_challenger_until_it_is_champion(
    client: mlflow.MlflowClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions(project, "exercise", 38)
    predictions(project, "tutorial", 36)
    exercise, evaluated = version(client, "exercise"), trace.evaluated

    def as_above(run_id: str) -> Any:
        known = evaluated(run_id)
        assert known
        return *known[:2], pd.read_csv(project.root / "reports/cells/exercise/31415/predictions.csv")

    monkeypatch.setattr(trace, "evaluated", as_above)
    said = challenger.name_challenger(loose())
    assert said.startswith(f"Challenger: version {exercise.number} (exercise-31415) of {NAME}, with 0.9500")
    assert "of 2 cells that pass the gates" in said
    said = challenger.name_challenger(loose(min_accuracy=0.99))
    assert "it would not be promoted: accuracy is 0.9500, must be >= 0.9900 (short by 0.0400)" in said
    assert registry.aliases(client, NAME)["challenger"].number == exercise.number

    client.set_registered_model_alias(NAME, "champion", str(exercise.number))
    said = challenger.name_challenger(loose())
    assert said.startswith(f"No challenger: the champion, version {exercise.number} (exercise-31415), has 0.9500")
    assert "challenger" not in registry.aliases(client, NAME)


def test_a_comparison_without_a_store_says_so_and_goes_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(store, "CHOSEN", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = challenger.name_challenger(params.load())
    assert said.startswith("No challenger is named: The MLflow store http://127.0.0.1:9 cannot be used")
    assert "\n" not in said


def test_a_model_that_fails_a_gate_is_not_promoted_and_nothing_changes(
    client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    before = registry.aliases(client, NAME)
    with pytest.raises(Failure, match=r"is not promoted. accuracy is 0.\d+, must be >= 0.9000 \(short by 0.\d+\)"):
        promotion.promote(loose(min_accuracy=0.9), "1", console())
    said = capsys.readouterr().out
    assert "fails by" in said
    assert "pictures answered as evaluated" in said
    assert registry.aliases(client, NAME) == before
    assert client.get_experiment_by_name(f"{NAME}-promotions") is None


def test_promote_by_force_predict_and_roll_back(
    client: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Failure, match="`car-or-truck promote` makes one"):
        predict.predict(["x.png"], None, "text", None, console())
    promotion.promote(loose(min_accuracy=1.0), "1", console(), force="the first")
    promotion.promote(loose(min_accuracy=1.0), "2", console(), dry_run=True, force="the second")
    assert registry.aliases(client, NAME)["champion"].number == 1
    promotion.promote(loose(min_accuracy=1.0), "2", console(), force="the second")
    capsys.readouterr()
    assert {alias: found.number for alias, found in registry.aliases(client, NAME).items()} == {
        "champion": 2,
        "previous": 1,
    }
    picture = str(next((project.root / "data/raw/valid/Car").iterdir()))
    predict.predict([picture], None, "text", None, console())
    assert f"Asking {NAME} version 2" in capsys.readouterr().out

    client.set_registered_model_alias(NAME, "champion", "1")  # by hand
    predict.predict([picture], None, "text", None, console())
    assert f"Asking {NAME} version 1" in capsys.readouterr().out
    promotion.rollback(console())
    said = capsys.readouterr().out
    assert "moved by hand, from version 2 to version 1" in said
    assert "version 2 (exercise-31415) is the champion again" in said
    promotion.show_history(console())
    said = capsys.readouterr().out
    for part in ("rolled back to", "moved by hand", "forced past the gates: the second"):
        assert part in said, part


def test_a_model_whose_bytes_were_changed_does_not_become_champion(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from car_or_truck.registry import loading

    served = loading.served

    def other(asked: registry.Version) -> Any:
        return served(version(client, "tutorial"))

    monkeypatch.setattr(loading, "served", other)
    verdict = {gate.name: gate for gate in promotion.judge(loose(tolerance=1e-6), version(client, "exercise"), None)}
    assert not verdict["largest change of an answer"].holds
    assert not verdict["pictures answered as evaluated"].holds
    monkeypatch.setattr(loading, "served", lambda asked: 1 / 0)
    verdict = {gate.name: gate for gate in promotion.judge(loose(), version(client, "exercise"), None)}
    assert not verdict["pictures answered as evaluated"].holds
    assert "the model does not answer: division by zero" in verdict["pictures answered as evaluated"].note


def test_a_champion_from_other_data_is_judged_anew_on_the_same_images(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the champion's cell says that it was evaluated on other images; its real answers must come out."""
    champion, evaluated = version(client, "exercise"), trace.evaluated
    expected = promotion.judge(loose(), version(client, "tutorial"), champion)

    def from_elsewhere(run_id: str) -> Any:
        known = evaluated(run_id)
        if known and run_id == champion.run_id:
            known[0]["data"]["arrays"] = {"train": "x", "valid": "x"}
            known[2]["probability"] = 0.5
        return known

    monkeypatch.setattr(trace, "evaluated", from_elsewhere)
    assert promotion.judge(loose(), version(client, "tutorial"), champion) == expected
    with pytest.raises(Failure, match="was evaluated on other images"):
        promotion.judge(loose(), champion, None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a person has it: pictures of all sizes and formats, one broken, and other files."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number, (form, size) in enumerate((("png", (10, 300)), ("jpeg", (64, 64)), ("webp", (7, 5)))):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{form}")
    (folder / "broken.jpg").write_bytes((folder / "1.jpeg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def standing_in_finished(finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.root)


@pytest.mark.usefixtures("standing_in_finished")
def test_a_broken_file_is_reported_and_the_others_are_answered(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "models/exercise/31415"
    assert predict.predict([str(pictures), "missing.png"], model, "json", None, Console(stderr=True)) == 2
    said = capsys.readouterr()
    answers = json.loads(said.out)
    assert [Path(answer["image"]).name for answer in answers] == ["0.png", "1.jpeg", "2.webp"]
    for answer in answers:
        assert answer["label"] == ("Truck" if answer["probability"] > 0.5 else "Car")
        assert answer["probability_of"] == "Truck"
    assert "broken.jpg: " in said.err
    assert "missing.png: there is no such file" in said.err
    predict.predict([str(pictures)], model, "csv", None, Console(stderr=True))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["probability"]) for row in rows] == [answer["probability"] for answer in answers]


@pytest.mark.usefixtures("standing_in_finished")
def test_a_prediction_is_the_evaluations_and_the_registered_models(
    finished: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = pd.read_csv(finished.root / "reports/cells/exercise/31415/predictions.csv").set_index("name")
    number = version(store.open_store(), "exercise").number
    for model in ("models/exercise/31415", str(number)):
        predict.predict(["data/raw/valid/Truck"], model, "json", None, Console(stderr=True))
        answers = json.loads(capsys.readouterr().out)
        assert len(answers) == (expected["label"] == 1).sum()
        for answer in answers:
            name = answer["image"].removeprefix("data/raw/valid/")
            assert answer["probability"] == pytest.approx(expected.loc[name, "probability"], abs=1e-3)


@pytest.mark.usefixtures("standing_in_finished")
def test_an_explanation_is_drawn(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "why" / "why.png"
    predict.predict([str(pictures)], "models/exercise/31415", "text", path, console())
    with Image.open(path) as drawn:
        assert drawn.width > 1000


class Serving(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(20):
                self.wfile.write(b"0" * 70_000)
                threading.Event().wait(0.1)
            return
        self.send_response(200 if self.path == "/photo" else 404)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(pictures: Path) -> Iterator[str]:
    Serving.content = (pictures / "1.jpeg").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_picture_is_fetched_from_an_address_within_limits(
    address: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = predict.Asked(f"{address}/photo").read()
    assert isinstance(content, io.BytesIO)
    assert content.read() == (pictures / "1.jpeg").read_bytes()
    with pytest.raises(ValueError, match="the server answers 404"):
        predict.Asked(f"{address}/nothing").read()
    with pytest.raises(ValueError, match="cannot be downloaded: Connection refused"):
        predict.Asked("http://127.0.0.1:9/photo").read()
    monkeypatch.setattr(predict, "MOST_SECONDS", 0.3)
    with pytest.raises(ValueError, match="not all there after"):
        predict.Asked(f"{address}/slow").read()
    monkeypatch.setattr(predict, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="larger than"):
        predict.Asked(f"{address}/photo").read()


def test_stdin_is_a_picture_or_a_list(pictures: Path) -> None:
    content = (pictures / "1.jpeg").read_bytes()
    assert list(predict.pictures(["-"], io.BytesIO(content))) == [predict.Asked("stdin", content)]
    listed = f"{pictures}\n\nhttp://host/photo.jpg\n".encode()
    names = [Path(asked.name).name for asked in predict.pictures(["-"], io.BytesIO(listed))]
    assert names == ["0.png", "1.jpeg", "2.webp", "broken.jpg", "photo.jpg"]


@pytest.mark.usefixtures("standing_in_finished")
def test_a_version_is_traced_from_itself_alone(finished: Project, capsys: pytest.CaptureFixture[str]) -> None:
    number = version(store.open_store(), "exercise").number
    reproduce.reproduce(f"models:/{NAME}/{number}", Console(width=200))
    said = capsys.readouterr().out
    dataset = json.loads((finished.root / "data/prepared/dataset.json").read_text())
    lock = (finished.root / "dvc.lock").read_text()
    for part in (
        f"commit       {finished.run('git', 'rev-parse', 'HEAD').strip()} (at hand)",
        "parameter    recipe.head.dropout = 0.2",
        f"data         rendered, digest {dataset['digest'][:12]} (in data/prepared)",
        "of train@exercise-31415 (in the cache)",
        "environment  tensorflow==",
    ):
        assert part in said, part
    for line in said.splitlines():
        if line.startswith("DVC output   "):
            assert f"md5: {line.split()[3]}" in lock
    assert "not in the cache" not in said
    assert "with changes" not in said


def table(*probability: float) -> pd.DataFrame:
    return pd.DataFrame({"name": ["a", "b"], "label": [0, 1], "probability": probability})


def test_the_verdict_tells_identical_from_near_and_from_different() -> None:
    then = table(0.25, 0.75)
    assert "the model is the same to the byte, and all 2 predictions" in reproduce.verdict(then, then, True, 0.01)
    assert "within the tolerance of 0.01" in reproduce.verdict(then, table(0.25, 0.751), False, 0.01)
    for now, says in (
        (table(0.25, 0.45), "differ by up to 0.3, and 1 of 2 answers changed"),
        (table(0.25, float("nan")), "NOT REPRODUCED"),
        (table(0.25, 0.75).assign(name=["a", "c"]), "other images"),
    ):
        with pytest.raises(Failure, match=says):
            reproduce.verdict(then, now, False, 0.01)


@pytest.mark.slow
def test_a_version_is_made_again_to_the_byte_also_from_changes_that_were_not_committed(project: Project) -> None:
    def more_dropout(tree: Any) -> None:
        tree["variants"]["exercise"]["head"]["dropout"] = 0.4

    project.edit(more_dropout)
    source = project.root / "src/car_or_truck/convnet.py"
    source.write_text(source.read_text() + "\n# not committed\n")
    project.run("dvc", "repro", "--force", "--single-item", "train@exercise-31415")
    project.run("dvc", "repro", "--force", "--single-item", "evaluate@exercise-31415")
    project.run("git", "checkout", "-q", "params.yaml", "src")
    before, database = project.run("git", "status", "--porcelain"), (project.root / "mlflow.db").read_bytes()
    said = project.run("car-or-truck", "reproduce", "3", "--run")
    assert "with changes that were not committed" in said
    assert "REPRODUCED: the model is the same to the byte, and all 40 predictions are the same to the last bit." in said
    assert project.run("git", "status", "--porcelain") == before
    assert (project.root / "mlflow.db").read_bytes() == database  # its runs go to a store of the clone
