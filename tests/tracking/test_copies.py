"""What a tracking server is given of a run: all of it, or what a lesser server takes; and whose it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.models import Model

from car_or_truck.errors import Failure
from car_or_truck.registry.versions import open_registry
from car_or_truck.tracking import copies, delivery, provenance, store, version_copies
from car_or_truck.tracking.live import LiveRuns
from helpers.clones import Project
from helpers.environments import new_environment
from helpers.lesser import LOGGED_MODELS, REGISTRY, Lesser, lesser_server
from helpers.processes import running
from helpers.stores import NAME, SYNTHETIC, Store

pytestmark = pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")  # MLflow 3.17, on import

USE = f"[Version {{0}} of {NAME}](#/models/{NAME}/versions/{{0}}): `car-or-truck predict --model models:/{NAME}/{{0}}`"
MLFLOW_2 = ("mlflow==2.7.1", "setuptools<81", "sqlalchemy<2.1")  # the last two: what it needs today, and does not pin
Deliver = Callable[[Store, str], tuple[str, bool]]


class Person(Store):
    """Someone's project, with models as `train` and `evaluate` leave them."""

    def __init__(self, root: Path, template: Path, name: str) -> None:
        super().__init__(root, template)
        self.name = name

    def make(self, cell: str, content: str) -> str:
        """A run of the cell with a logged model and a version; returns its id."""
        mlflow.set_tracking_uri(self.client.tracking_uri)
        tags = {"cell": cell, "mlflow.user": self.name}
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=f"{cell}-1").info.run_id)
        self.client.log_text(run_id, cell, "trace/cell.json")
        model = self.client.create_logged_model(self.experiment, "model", run_id, {"kept": "last"}, {"epochs": "2"})
        folder = Path(model.artifact_location.removeprefix("file://"))
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "model.keras").write_text(content)
        Model(artifact_path="here", run_id=run_id, model_id=model.model_id).save(str(folder / "MLmodel"))
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        self.evaluate(run_id, 0.5)
        digest = {"cell": cell, "model.sha256": content}
        version = self.client.create_model_version(
            NAME, f"models:/{model.model_id}", run_id, digest, model_id=model.model_id
        )
        self.describe(run_id, version.version, "A card.")
        self.client.set_terminated(run_id)
        return run_id

    def evaluate(self, run_id: str, accuracy: float) -> None:
        (output,) = self.client.get_run(run_id).outputs.model_outputs
        point = Metric("accuracy", accuracy, round(1000 * accuracy), 0, output.model_id, "archive-valid", "digest")
        self.client.log_batch(run_id, [point])

    def describe(self, run_id: str, number: int, words: str) -> None:
        text = f"{words} {USE.format(number)}, not models:/{NAME}/{number}1"
        self.client.update_model_version(NAME, str(number), text)
        self.client.set_tag(run_id, "mlflow.note.content", text)


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Lesser]:
    copies._say_once.cache_clear()  # an earlier server may have had this one's port
    with lesser_server(tmp_path / "server", empty_database) as lesser:
        yield lesser


@pytest.fixture
def remote(server: Lesser) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(server.url)


@pytest.fixture
def ada(tmp_path: Path, empty_database: Path) -> Person:
    return Person(tmp_path / "ada", empty_database, "ada")


@pytest.fixture
def bob(tmp_path: Path, empty_database: Path) -> Person:
    return Person(tmp_path / "bob", empty_database, "bob")


@pytest.fixture
def deliver(server: Lesser, monkeypatch: pytest.MonkeyPatch) -> Deliver:
    """Deliver from someone's folder."""

    def run(person: Store, run_id: str) -> tuple[str, bool]:
        monkeypatch.chdir(person.root)
        mlflow.set_tracking_uri(server.url)
        return delivery.deliver(run_id, server.url)

    return run


def versions(remote: mlflow.MlflowClient) -> dict[int, Any]:
    return {int(version.version): version for version in remote.search_model_versions(f"name = '{NAME}'")}


def artifacts(remote: mlflow.MlflowClient, run_id: str, folder: Path) -> dict[str, str]:
    """The files of a run, by their paths."""
    uri = remote.get_run(run_id).info.artifact_uri
    top = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=remote.tracking_uri))
    return {path.relative_to(top).as_posix(): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_the_same_bytes_of_two_people_are_one_version_that_names_both_runs(
    ada: Person, bob: Person, server: Lesser, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    runs = {"ada": ada.make("cell", "bytes"), "other": bob.make("other", "others"), "bob": bob.make("cell", "bytes")}
    copy = {name: deliver(ada if name == "ada" else bob, run_id)[0] for name, run_id in runs.items()}
    assert {number: version.run_id for number, version in versions(remote).items()} == {
        1: copy["ada"],
        2: copy["other"],
    }
    assert versions(remote)[1].tags[version_copies.RUNS] == f"{copy['ada']}, {copy['bob']}"
    assert version_copies.RUNS not in versions(remote)[2].tags
    assert [remote.get_run(copy[name]).info.user_id for name in ("ada", "bob")] == ["ada", "bob"]
    for name in copy:
        (output,) = remote.get_run(copy[name]).outputs.model_outputs
        number = 2 if name == "other" else 1
        link = remote.get_logged_model(output.model_id).tags["mlflow.modelVersions"]
        assert link.replace('"', "") == f"[{{name: {NAME}, version: {number}}}]"

    elsewhere = bob.make("cell", "bytes of another processor")
    assert deliver(bob, elsewhere)[0] == versions(remote)[3].run_id
    server.requests.clear()
    assert not any(deliver(ada if name == "ada" else bob, run_id)[1] for name, run_id in runs.items())
    assert server.changes == []


def test_a_version_whose_run_was_deleted_on_the_server_does_not_stand_for_the_same_bytes(
    ada: Person, bob: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    first, _ = deliver(ada, ada.make("cell", "bytes"))
    remote.delete_run(first)
    second, _ = deliver(bob, bob.make("cell", "bytes"))
    assert {number: version.run_id for number, version in versions(remote).items()} == {1: first, 2: second}


def test_the_run_of_a_model_trained_again_to_the_same_bytes_names_the_servers_version(
    ada: Person, bob: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    deliver(ada, ada.make("other", "others"))
    runs = [bob.make("cell", "bytes"), bob.make("cell", "bytes")]
    bob.client.delete_model_version(NAME, "2")
    (output,) = bob.client.get_run(runs[1]).outputs.model_outputs
    bob.client.set_logged_model_tags(output.model_id, {"mlflow.modelVersions": f'[{{"name": "{NAME}", "version": 1}}]'})
    bob.client.set_tag(runs[1], "mlflow.note.content", USE.format(1))
    copy = [deliver(bob, run_id)[0] for run_id in runs]
    assert {number: version.run_id for number, version in versions(remote).items() if number != 1} == {2: copy[0]}
    assert versions(remote)[2].tags[version_copies.RUNS] == ", ".join(copy)
    assert remote.get_run(copy[1]).data.tags["mlflow.note.content"] == USE.format(2)


def test_a_model_that_a_person_registered_under_another_name_too_changes_no_other_version(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    runs = [ada.make("first", "bytes"), ada.make("second", "others")]
    copy = [deliver(ada, run_id)[0] for run_id in runs]
    before = {number: version.tags for number, version in versions(remote).items()}
    for client, run_id in ((ada.client, runs[1]), (remote, copy[1])):
        mlflow.set_tracking_uri(client.tracking_uri)
        (output,) = client.get_run(run_id).outputs.model_outputs
        client.create_registered_model("best")
        client.create_model_version("best", f"models:/{output.model_id}", run_id, model_id=output.model_id)
    ada.client.set_model_version_tag(NAME, "2", "accuracy", "0.5")
    deliver(ada, runs[1])
    after = {number: version.tags for number, version in versions(remote).items()}
    assert after == {1: before[1], 2: {**before[2], "accuracy": "0.5"}}


@pytest.mark.slow
def test_card_and_note_name_the_versions_of_the_server(
    ada: Person, bob: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    deliver(ada, ada.make("cell", "bytes"))
    other, same = bob.make("other", "others"), bob.make("cell", "bytes")
    for run_id, own_number, number in ((other, 1, 2), (same, 2, 1)):
        copy, _ = deliver(bob, run_id)
        text = f"A card. {USE.format(number)}, not models:/{NAME}/{own_number}1"
        assert remote.get_run(copy).data.tags["mlflow.note.content"] == versions(remote)[number].description.replace(
            f"{NAME}/11", f"{NAME}/{own_number}1"
        )
        assert remote.get_run(copy).data.tags["mlflow.note.content"] == text


@pytest.mark.slow
def test_what_is_said_on_the_server_stands_until_it_changes_here(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    run_id = ada.make("cell", "bytes")
    ada.client.set_tag(run_id, "selection", "best of 2")
    copy, _ = deliver(ada, run_id)
    for key in ("selection", "mlflow.note.content"):
        remote.set_tag(copy, key, "theirs")
    remote.update_model_version(NAME, "1", "theirs")
    ada.client.set_model_version_tag(NAME, "1", "promotion", "promoted here")
    assert deliver(ada, run_id) == (copy, False)
    tags = remote.get_run(copy).data.tags
    assert [tags["selection"], tags["mlflow.note.content"], versions(remote)[1].description] == ["theirs"] * 3
    assert "promotion" not in versions(remote)[1].tags
    ada.describe(run_id, 1, "Evaluated again.")
    assert deliver(ada, run_id) == (copy, True)
    assert remote.get_run(copy).data.tags["selection"] == "best of 2"
    assert versions(remote)[1].description.startswith("Evaluated again.")


@pytest.mark.slow
def test_a_logged_model_has_its_tags_metrics_and_dataset_as_at_home(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    run_id = ada.make("cell", "bytes")
    copy, _ = deliver(ada, run_id)
    (output,) = remote.get_run(copy).outputs.model_outputs

    def read_metrics() -> list[tuple[Any, ...]]:
        metrics = remote.get_logged_model(output.model_id).metrics
        return sorted((point.value, point.dataset_name, point.dataset_digest, point.run_id) for point in metrics)

    model = remote.get_logged_model(output.model_id)
    assert (model.tags["kept"], model.params, str(model.status)) == ("last", {"epochs": "2"}, "READY")
    assert model.tags["mlflow.note.content"] == remote.get_run(copy).data.tags["mlflow.note.content"]
    remote.set_logged_model_tags(output.model_id, {"mlflow.note.content": "theirs"})  # it stands
    assert read_metrics() == [(0.5, "archive-valid", "digest", copy)]
    ada.evaluate(run_id, 0.75)
    assert deliver(ada, run_id) == (copy, True)
    assert read_metrics() == [(0.5, "archive-valid", "digest", copy), (0.75, "archive-valid", "digest", copy)]
    assert remote.get_logged_model(output.model_id).tags["mlflow.note.content"] == "theirs"
    assert deliver(ada, run_id) == (copy, False)


def test_a_name_that_a_person_gave_a_run_on_the_server_stands_and_its_colour_is_the_comparisons(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    run_id = ada.make("cell", "bytes")
    copy, _ = deliver(ada, run_id)
    ada.client.set_tag(run_id, "mlflow.runColor", "#ff0000")
    assert deliver(ada, run_id) == (copy, True)
    assert remote.get_run(copy).data.tags["mlflow.runColor"] == "#ff0000"
    remote.update_run(copy, name="theirs")
    assert deliver(ada, run_id) == (copy, False)
    ada.client.set_tag(run_id, "mlflow.runColor", "#00ff00")  # of a later comparison
    assert deliver(ada, run_id) == (copy, True)
    run = remote.get_run(copy)
    assert (run.info.run_name, run.data.tags["mlflow.runColor"]) == ("theirs", "#00ff00")


def test_an_experiment_comes_with_its_saved_views_and_links_to_them(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    remote.create_experiment("another")
    link = "[Best](#/experiments/{}/runs?viewStateShareKey=best)"
    ada.client.set_experiment_tag(ada.experiment, "mlflow.note.content", link.format(ada.experiment))
    ada.client.set_experiment_tag(ada.experiment, "mlflow.sharedViewState.best", "{}")
    deliver(ada, ada.make("net", "content"))
    experiment = remote.get_experiment_by_name(NAME)
    assert experiment.experiment_id != ada.experiment
    assert experiment.tags["mlflow.note.content"] == link.format(experiment.experiment_id)
    assert experiment.tags["mlflow.sharedViewState.best"] == "{}"


def test_a_server_without_registry_shows_the_progress_of_trainings_and_says_that_it_has_none(
    server: Lesser, remote: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers[REGISTRY] = 404
    run = remote.create_run(remote.create_experiment(NAME), run_name="net-1")
    remote.log_metric(run.info.run_id, "val_binary_accuracy", 0.75, step=1)
    monkeypatch.setattr(store, "CHOSEN", server.url)
    ((name, (point,)),) = LiveRuns(NAME).accuracies().items()
    assert (name, point.value) == ("net-1", 0.75)
    with pytest.raises(Failure, match=f"^The tracking server {server.url} has no model registry.$"):
        open_registry()


@pytest.mark.parametrize(
    ("lacks", "messages"),
    [
        pytest.param(
            [LOGGED_MODELS],
            ["has no logged models: a model goes into the folder model of its run."],
            marks=pytest.mark.slow,
        ),
        pytest.param([REGISTRY], ["has no model registry: models get no version there."], marks=pytest.mark.slow),
        (
            [LOGGED_MODELS, "mlflow/registered-models/create", "mlflow/runs/log-inputs"],
            ["has no logged models: a model", "has no model registry: models get"],
        ),
    ],
    ids=["as Azure ML", "without registry", "as DagsHub"],
)
def test_a_server_that_lacks_a_part_gets_the_others(
    lacks: list[str],
    messages: list[str],
    ada: Person,
    server: Lesser,
    remote: mlflow.MlflowClient,
    deliver: Deliver,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    server.answers = dict.fromkeys(lacks, 404)
    runs = [ada.make("cell", "bytes"), ada.make("other", "others")]
    delivered = [deliver(ada, run_id) for run_id in runs]
    assert [added for _, added in delivered] == [True, True]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("The tracking server")]
    assert len(lines) == len(messages)
    assert all(expected in line for expected, line in zip(messages, lines, strict=True))
    for place, (copy, _) in enumerate(delivered):
        run = remote.get_run(copy)
        assert (run.info.status, run.info.user_id, run.data.metrics) == ("FINISHED", "ada", {"accuracy": 0.5})
        files = artifacts(remote, copy, tmp_path / copy)
        if LOGGED_MODELS in lacks:
            assert files["model/data/model.keras"] == ("others" if place else "bytes")
            about = Model.load(str(tmp_path / copy / "artifacts" / "model"))
            assert (about.run_id, about.model_id, about.artifact_path) == (copy, None, "model")
        assert {name for name in files if not name.startswith("model/")} == {"trace/cell.json"}
    server.requests.clear()
    assert [deliver(ada, run_id) for run_id in runs] == [(copy, False) for copy, _ in delivered]
    assert [request for request in server.changes if not request.endswith("/create")] == []
    assert "The tracking server" not in capsys.readouterr().out
    server.answers = {}
    expected = {} if len(messages) > 1 or REGISTRY in lacks else {1: delivered[0][0], 2: delivered[1][0]}
    assert {number: version.run_id for number, version in versions(remote).items()} == expected


def test_an_experiment_that_another_worker_makes_at_the_same_time_is_shared(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, theirs = ada.make("cell", "bytes"), remote.create_experiment(NAME)
    look_up, calls = mlflow.MlflowClient.get_experiment_by_name, []

    def too_early(client: mlflow.MlflowClient, name: str) -> Any:
        calls.append(name)
        return None if len(calls) == 1 else look_up(client, name)

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", too_early)
    copy, _ = deliver(ada, run_id)
    assert remote.get_run(copy).info.experiment_id == theirs


def test_a_server_of_the_projects_own_store_gets_no_second_run(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = ada.make("cell", "bytes")
    monkeypatch.chdir(ada.root)
    for _ in range(2):
        assert delivery.deliver(run_id, ada.client.tracking_uri) == (run_id, False)
    assert len(ada.client.search_runs([ada.experiment])) == 1


def test_a_server_that_failed_for_a_while_gets_the_epochs_once_it_is_back(
    ada: Person,
    server: Lesser,
    remote: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id = ada.make("cell", "bytes")
    monkeypatch.chdir(ada.root)
    monkeypatch.setattr(store, "CHOSEN", server.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    server.answers = {"POST": 502}
    courier = delivery.Courier(run_id, server.url)
    courier.call()
    output = ""
    while "did not take this run" not in output:
        output += capsys.readouterr().out
        time.sleep(0.01)
    server.answers = {}
    courier.call()
    while not (there := remote.get_experiment_by_name(NAME)) or not remote.search_runs([there.experiment_id]):
        time.sleep(0.01)
    courier.close()
    assert "did not take" not in capsys.readouterr().out
    (copy,) = remote.search_runs([there.experiment_id])
    assert copy.data.metrics == ada.client.get_run(run_id).data.metrics != {}


def test_what_a_server_cannot_give_now_is_not_called_missing(
    server: Lesser, remote: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    run_id = remote.create_run(remote.create_experiment(NAME)).info.run_id
    assert not list(provenance.download(run_id, tmp_path).glob("*"))
    server.answers = {"mlflow-artifacts": 503}
    with pytest.raises(Failure, match=f"The MLflow store {server.url} cannot be used: "):
        provenance.download(run_id, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403])
def test_one_who_may_not_write_is_told_once_a_run_and_loses_nothing(
    status: int,
    ada: Person,
    server: Lesser,
    remote: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id, address = ada.make("cell", "bytes"), server.url.replace("//", "//ada:secret@")
    monkeypatch.chdir(ada.root)
    monkeypatch.setattr(store, "CHOSEN", address)
    mlflow.set_tracking_uri(server.url)
    server.answers = {"POST .*mlflow/(experiments|runs)/create": status}
    courier = delivery.Courier(run_id, address)
    for _ in range(3):
        courier.call()
    courier.close()
    delivery.hand_over(run_id)
    assert ada.client.get_run(run_id).data.tags[delivery.REFUSED] == server.url.replace("//", "//***@")
    (line,) = capsys.readouterr().out.splitlines()
    assert "did not take this run (you may not write to it: set MLFLOW_TRACKING_USERNAME" in line
    server.answers = {}
    delivery.hand_over(run_id)
    assert "did not take" not in capsys.readouterr().out
    assert versions(remote)[1].tags["cell"] == "cell"
    assert delivery.REFUSED not in ada.client.get_run(run_id).data.tags


@pytest.mark.slow
def test_one_who_may_not_register_delivers_the_run(
    ada: Person, server: Lesser, remote: mlflow.MlflowClient, deliver: Deliver, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers = {f"(POST|PATCH) .*{REGISTRY}": 403}
    run_id = ada.make("cell", "bytes")
    copy, _ = deliver(ada, run_id)
    assert remote.get_run(copy).info.status == "FINISHED"
    assert deliver(ada, run_id) == (copy, False)
    assert capsys.readouterr().out.count("does not let you write to its model registry: models get no version") == 1


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_wrote_a_file_is_delivered(
    ada: Person, remote: mlflow.MlflowClient, deliver: Deliver
) -> None:
    run_id = ada.client.create_run(ada.experiment, tags={"cell": "cell"}).info.run_id
    ada.client.set_terminated(run_id, "KILLED")
    copy, _ = deliver(ada, run_id)
    assert remote.get_run(copy).info.status == "KILLED"


@pytest.fixture(scope="module")
def mlflow_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of an environment that holds MLflow 2.7, which DagsHub runs."""
    return new_environment(tmp_path_factory.mktemp("mlflow2") / "env", *MLFLOW_2, python="3.11")


@pytest.mark.slow
def test_a_server_of_mlflow_2_gets_all_but_logged_models_and_serves_the_pipeline(
    project: Project, mlflow_2: Path, tmp_path: Path
) -> None:
    (tmp_path / "server").mkdir()
    path = f"PATH={mlflow_2}{os.pathsep}{os.environ['PATH']}"
    options = ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./artifacts", "--workers", "1"]
    with running(Project(tmp_path / "server"), "env", path, "mlflow", "server", *options, ready="/health") as address:
        output = project.run("car-or-truck", "sync", MLFLOW_TRACKING_URI=address)
        assert output.count("has no logged models") == output.count("The tracking server") == 1
        assert "3 runs had to be delivered" in output
        assert "no runs had to be delivered" in project.run("car-or-truck", "sync", MLFLOW_TRACKING_URI=address)
        remote = mlflow.MlflowClient(address)
        experiment = remote.get_experiment_by_name(SYNTHETIC).experiment_id
        runs = remote.search_runs([experiment])
        assert {run.info.status for run in runs} == {"FINISHED"}
        registered = remote.search_model_versions(f"name = '{SYNTHETIC}'")
        assert {version.run_id for version in registered} == {
            run.info.run_id for run in runs if "cell" in run.data.tags
        }
        output = project.run("car-or-truck", "promote", "1", "--force", "a test", MLFLOW_TRACKING_URI=address)
        assert "is now the champion" in output
        photo = next((project.root / "data/raw/valid/Car").iterdir())
        output = project.run("car-or-truck", "predict", str(photo), MLFLOW_TRACKING_URI=address)
        assert f"Using {SYNTHETIC} version 1" in output
        output = project.run("car-or-truck", "clean", "--dry-run", MLFLOW_TRACKING_URI=address)
        assert "Nothing to remove" in output
