"""Runs that reach a real tracking server late, or a store anew: whole, once, and as if they had been there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from car_or_truck import params, pipeline
from car_or_truck.cells.cell import read_trained
from car_or_truck.cells.results import read_evaluation
from car_or_truck.commands import sync
from car_or_truck.errors import Failure
from car_or_truck.evaluate import inspection
from car_or_truck.files import sha256
from car_or_truck.registry import champion as champions
from car_or_truck.registry import versions
from car_or_truck.registry.gates import Decision
from car_or_truck.tracking import processes, runs, training
from car_or_truck.train import checkpoint
from car_or_truck.train.checkpoint import locked_checkpoint
from car_or_truck.train.history import METRICS
from helpers.clones import Project
from helpers.processes import await_epochs, longer, start
from helpers.stores import SYNTHETIC


class Server:
    """A real `mlflow server`, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        options = ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./artifacts"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1", *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        waited_since = time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            except OSError:
                assert time.monotonic() - waited_since < 120, (self.folder / "log").read_text()
                time.sleep(0.2)

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    mlflow_server = Server(tmp_path / "server")
    yield mlflow_server
    mlflow_server.kill()


def describe_runs(store: str) -> dict[str, Any]:
    """All that a store tells of the cells' runs, but for what names the store itself."""
    client, all_runs = mlflow.MlflowClient(store), {}
    for run in client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()], "tags.cell LIKE '%'"
    ):

        def artifacts(folder: str | None = None, run_id: str = run.info.run_id) -> list[tuple[str, int]]:
            return [
                entry
                for item in client.list_artifacts(run_id, folder)
                for entry in (artifacts(item.path) if item.is_dir else [(item.path, item.file_size)])
            ]

        all_runs[f"{run.info.run_name} {run.info.start_time}"] = {
            "status": (run.info.status, run.info.end_time),
            "params": run.data.params,
            "tags": {key: value for key, value in run.data.tags.items() if not key.startswith("delivered.")},
            "metrics": {
                name: [
                    (point.step, point.timestamp, point.value)
                    for point in client.get_metric_history(run.info.run_id, name)
                ]
                for name in run.data.metrics
            },
            "datasets": [(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs],
            "artifacts": sorted(artifacts()),
            "models": len(run.outputs.model_outputs),
            "versions": [
                (version.name, version.tags, version.description)
                for version in client.search_model_versions(f"run_id = '{run.info.run_id}'")
            ],
        }
    return all_runs


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow 3.17 with pandas 3
def test_an_evaluation_of_an_earlier_training_is_not_taken_for_the_new_ones(
    client: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before, (earlier, _) = versions.versions(client, SYNTHETIC), read_trained("exercise", 31415)
    cards = [client.get_model_version(SYNTHETIC, str(version.number)).description for version in before]
    project.edit(lambda tree: tree["variants"]["exercise"].update(epochs=1))
    pipeline.train(params.load(), "exercise", 31415)
    cell, _ = read_trained("exercise", 31415)
    assert cell.fingerprint != earlier.fingerprint
    for rebuilt in ("no runs", "1 run"):
        capsys.readouterr()
        sync.sync(params.load())
        printed = capsys.readouterr().out
        assert "exercise-31415: its evaluation belongs to an earlier training. Run `dvc repro`." in printed
        assert f"2 trained models in models/: {rebuilt} had to be rebuilt." in printed
        run_id = runs.find_run(cell)
        assert run_id
        run = client.get_run(run_id)
        assert run.data.tags["cell"] == cell.fingerprint
        assert set(run.data.metrics) <= {*METRICS, "training_seconds"}
        assert not {"figures", "predictions.csv"} & {item.path for item in client.list_artifacts(run_id)}
        assert client.search_model_versions(f"run_id = '{run_id}'") == []
        client.delete_run(run_id)  # the second time, sync has to rebuild it
    assert versions.versions(client, SYNTHETIC) == before
    assert cards == [client.get_model_version(SYNTHETIC, str(version.number)).description for version in before]


def registry(store: str) -> Any:
    """Whose model each version is, the aliases, what the champions' versions say, and the comparisons."""
    client = mlflow.MlflowClient(store)
    registered = versions.versions(client, SYNTHETIC)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return (
        {version.number: (version.tags["cell"], version.tags["model.sha256"]) for version in registered},
        {
            version.number: {key: version.tags[key] for key in version.tags if "promotion" in key}
            for version in registered
        },
        client.get_registered_model(SYNTHETIC).aliases,
        {run.data.tags["comparison"] for run in client.search_runs(experiments, "tags.comparison LIKE '%'")},
    )


@pytest.fixture
def lost(client: mlflow.MlflowClient) -> mlflow.MlflowClient:
    """A store that lost its versions with their aliases, the record of the champions and the comparison."""
    champions.promote(client, versions.find(client, "2"), None, Decision(()), "")
    champions.promote(client, versions.find(client, "1"), versions.find(client, "2"), Decision(()), "lighter")
    client.delete_registered_model(SYNTHETIC)
    for run in client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]):
        if "cell" not in run.data.tags:
            client.delete_run(run.info.run_id)
    return client


def variants(client: mlflow.MlflowClient) -> dict[int, str]:
    """Whose model each version is."""
    return {version.number: version.tags["variant"] for version in versions.versions(client, SYNTHETIC)}


def test_a_copy_or_a_broken_model_beside_the_others_is_left_out(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    shutil.copytree("models/tutorial/31415", "models/tutorial/31415.bak")
    shutil.copytree("models/tutorial/31415", "models/old/7")
    cut = Path("models/old/7/cell.json")
    cut.write_bytes(cut.read_bytes()[:100])
    shutil.copytree("models/tutorial/31415", "models/tutorial/7")
    model = Path("models/tutorial/7/model.keras")
    model.write_bytes(model.read_bytes()[:-100])
    shutil.copytree("models/tutorial/31415", "models/tutorial/8")
    flipped = Path("models/tutorial/8/model.keras")
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 255
    flipped.write_bytes(content)
    assert sorted(cell.name for cell, _ in sync._trained()) == ["exercise-31415", "tutorial-31415"]
    with pytest.raises(Failure, match=r"^models/tutorial/8/model.keras cannot be loaded: "):
        inspection.load_net(flipped)
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 3
    for seed in (7, 8):
        assert any(f"models/tutorial/{seed} has no whole model.keras" in line for line in output)
    assert any("models/old/7/cell.json cannot be read (it is broken)" in line for line in output)


@pytest.mark.usefixtures("client")
def test_a_run_whose_files_were_lost_is_named_with_the_way_out(project: Project) -> None:
    shutil.rmtree(project.root / "mlruns")
    cell, history = next(sync._trained())
    with pytest.raises(Failure, match=r"^mlruns/ has lost the files of \w+-31415's run. Move mlflow.db away, too: "):
        sync._rebuild(cell, history, None)


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow 3.17 with pandas 3
def test_a_description_that_a_person_edited_stands_though_the_model_was_trained_again(
    client: mlflow.MlflowClient,
) -> None:
    cell, history = read_trained("exercise", 31415)
    evaluation = read_evaluation(cell)
    assert evaluation
    registered = versions.record_evaluation(training.rebuild(cell, history), cell, evaluation.scores)
    client.update_model_version(SYNTHETIC, str(registered.number), "Mine.")
    assert not sync._rebuild(cell, history, None)
    assert client.get_model_version(SYNTHETIC, str(registered.number)).description == "Mine."


def test_versions_that_were_lost_come_back_with_their_numbers_and_the_champion_with_its_record(
    lost: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = project.root / f".dvc/tmp/registry/{SYNTHETIC}/versions"
    (notes / "1.json").rename(notes / "5.json")  # tutorial's
    (notes / "4.json").write_text((notes / "2.json").read_text().replace("exercise", "earlier"))
    project.edit(lambda tree: tree["train"].update(variants=["tutorial", "exercise"]))
    sync.sync(params.load())
    output = capsys.readouterr().out
    assert variants(lost) == {2: "exercise", 5: "tutorial"}
    assert "numbers that they had. Not rebuilt, as models/ lacks their models: 4 (earlier-31415)." in output
    assert f"{SYNTHETIC}: the record of promotions is back, 2 in all; champion: none." in output  # it was version 1
    assert versions.aliases(lost, SYNTHETIC)["previous"].number == 2

    sync.sync(params.load())
    output = capsys.readouterr().out
    assert "numbers" not in output
    assert "promotions" not in output
    lost.delete_model_version(SYNTHETIC, "2")
    sync.sync(params.load())
    assert "exercise-31415: what was version 2 is version 6 now." in capsys.readouterr().out
    assert variants(lost) == {5: "tutorial", 6: "exercise"}


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow 3.17 with pandas 3
def test_what_people_deleted_in_the_ui_is_rebuilt(
    client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (versions.find(client, f"models:/{SYNTHETIC}/{number}") for number in (1, 2))
    client.delete_run(first.run_id)
    client.delete_logged_model(client.get_run(second.run_id).outputs.model_outputs[0].model_id)
    sync.sync(params.load())
    assert "2 runs had to be rebuilt" in capsys.readouterr().out
    cell, _ = read_trained(second.tags["variant"], 31415)
    assert runs.find_run(cell) not in (second.run_id, None)
    for number in (3, 4):
        assert runs.is_whole(versions.find(client, f"models:/{SYNTHETIC}/{number}").run_id)
    client.update_model_version(SYNTHETIC, "3", "A person's words.")
    sync.sync(params.load())
    assert "no runs had to be rebuilt" in capsys.readouterr().out
    assert client.get_model_version(SYNTHETIC, "3").description == "A person's words."


def test_a_model_whose_training_is_just_ending_gets_no_second_run(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = versions.find(client, "1").run_id
    cell, _ = read_trained("tutorial", 31415)
    client.set_tag(run_id, processes.TAG, processes.this_process())
    client.update_run(run_id, "RUNNING")
    held, waiting = threading.Event(), threading.Event()

    def say(*words: Any, **how: Any) -> None:
        print(*words, **how)
        waiting.set()

    monkeypatch.setattr(checkpoint, "print", say, raising=False)

    def end() -> None:
        with locked_checkpoint(cell.fingerprint, cell.name):
            held.set()
            assert waiting.wait(60)
            client.update_run(run_id, "FINISHED")

    ending = threading.Thread(target=end)
    ending.start()
    assert held.wait(60)
    sync.sync(params.load())
    ending.join()
    output = capsys.readouterr().out
    assert "tutorial-31415 is being trained by another process; waiting" in output
    assert "no runs had to be rebuilt" in output


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow 3.17 with pandas 3
def test_a_colleagues_bytes_of_a_cell_get_a_run_and_a_version_of_their_own(
    client: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = versions.versions(client, SYNTHETIC)
    cell, _ = read_trained("exercise", 31415)
    model, own = project.root / "models/exercise/31415/model.keras", runs.find_run(cell)
    ours = model.read_bytes()
    with zipfile.ZipFile(model, "a") as archive:
        archive.comment = b"of another processor"
    for rebuilt in ("1 run", "no runs"):
        sync.sync(params.load())
        assert f"2 trained models in models/: {rebuilt} had to be rebuilt." in capsys.readouterr().out
    theirs, *others = versions.versions(client, SYNTHETIC)
    assert others == before
    assert theirs.tags["cell"] == cell.fingerprint
    assert theirs.tags["model.sha256"] == sha256(model)
    assert theirs.run_id == runs.find_run(cell) != own
    model.write_bytes(ours)
    assert runs.find_run(cell) == own


def test_a_registered_model_that_was_deleted_in_the_ui_has_its_champion_again(
    client: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    champions.promote(client, versions.find(client, "1"), None, Decision(()), "")
    moves = champions.history(client, SYNTHETIC)
    client.delete_registered_model(SYNTHETIC)
    sync.sync(params.load())
    output = capsys.readouterr().out
    assert f"{SYNTHETIC}: the champion is version 1" in output
    assert "No challenger: the champion, version 1" in output
    assert {alias: version.number for alias, version in versions.aliases(client, SYNTHETIC).items()} == {"champion": 1}
    assert champions.settle(client, SYNTHETIC) == []
    assert champions.history(client, SYNTHETIC) == moves


def test_versions_without_known_numbers_come_in_the_order_of_params_yaml_and_sync_says_so(
    lost: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project.root / ".dvc/tmp/registry")
    report = project.root / "reports/comparison.json"
    report.write_text(report.read_text().replace("exercise", "earlier"))
    project.edit(lambda tree: tree["train"].update(variants=["tutorial", "exercise"]))
    sync.sync(params.load())
    output = capsys.readouterr().out
    assert variants(lost) == {1: "tutorial", 2: "exercise"}
    assert f"A models:/{SYNTHETIC}/N from elsewhere may mean another model" in output
    assert "The comparison in reports/ is not of the models that are here now: run `dvc repro`." in output


@pytest.mark.slow
def test_a_server_that_dies_half_way_gets_all_of_it_later(project: Project, server: Server, tmp_path: Path) -> None:
    project.edit(lambda tree: longer(tree, 40))
    server.start()
    process = start(project, MLFLOW_TRACKING_URI=server.url)
    assert process.stdout
    with process.stdout:
        output = await_epochs(process, 8)
        server.kill()
        output += process.stdout.read()
    assert process.wait() == 0, output
    assert output.count("did not take this run") == 1
    assert re.search(r"^ +40/40 ", output, re.MULTILINE)
    output = project.run("car-or-truck", "evaluate", "tutorial", "31415", MLFLOW_TRACKING_URI=server.url)
    assert output.count("did not take this run") == 1

    server.start()
    own = f"sqlite:///{project.root / 'mlflow.db'}"
    assert describe_runs(server.url) != describe_runs(own)
    output = project.run("car-or-truck", "sync", MLFLOW_TRACKING_URI=server.url)
    assert "4 runs had to be delivered" in output  # the two of the finished project and its comparison too
    assert describe_runs(server.url) == describe_runs(own)
    assert "no runs had to be delivered" in project.run("car-or-truck", "sync", MLFLOW_TRACKING_URI=server.url)
    assert describe_runs(server.url) == describe_runs(own)
    mlflow.set_tracking_uri(server.url)
    (version,) = [
        version
        for version in mlflow.MlflowClient().search_model_versions("name = 'car-or-truck-rendered'")
        if version.tags["variant"] == "exercise"
    ]
    mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}", dst_path=str(tmp_path))


@pytest.mark.slow
def test_a_server_that_is_up_sees_the_epochs_while_they_happen(project: Project, server: Server) -> None:
    project.edit(lambda tree: longer(tree, 300))
    server.start()
    process = start(project, MLFLOW_TRACKING_URI=server.url)
    assert process.stdout
    with process.stdout:
        await_epochs(process, 2)
        waited_since, epochs = time.monotonic(), 0
        while not epochs and process.poll() is None:
            assert time.monotonic() - waited_since < 60
            epochs = max([len(run["metrics"].get("loss", [])) for run in describe_runs(server.url).values()], default=0)
        assert 0 < epochs < 300
        process.stdout.read()
    assert process.wait() == 0
    (run,) = describe_runs(server.url).values()
    assert run["status"][0] == "FINISHED"
    assert len(run["metrics"]["val_loss"]) == 300


@pytest.mark.slow
def test_a_server_that_never_answers_does_not_slow_the_training_down(project: Project) -> None:
    project.edit(longer)
    project.set_constants("tracking/delivery.py", PATIENCE=3)
    variables = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "600", "PYTHONPATH": str(project.root / "src")}
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody accepts what it queues
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start(project, MLFLOW_TRACKING_URI=url, **variables)
        assert process.stdout
        with process.stdout:
            await_epochs(process, 1)
            since = time.monotonic()
            await_epochs(process, 11)
            assert time.monotonic() - since < 30
            output = process.stdout.read()
        assert process.wait() == 0
    assert output.count("did not take this run (too slow)") == 1


@pytest.mark.slow
def test_a_store_that_was_deleted_is_rebuilt_and_a_clone_fills_its_own(project: Project, tmp_path: Path) -> None:
    own = f"sqlite:///{project.root / 'mlflow.db'}"
    project.run("car-or-truck", "promote", "1", "--force", "it is small")
    project.run("car-or-truck", "compare")
    registered, history = registry(own), project.run("car-or-truck", "promote", "--history")
    before = describe_runs(own)
    (project.root / "mlflow.db").unlink()
    shutil.rmtree(project.root / "mlruns")
    output = project.run("car-or-truck", "sync")
    assert "2 runs had to be rebuilt" in output
    assert "versions have the numbers that they had.\n" in output
    assert "champion: version 1" in output
    assert "The comparison was rebuilt from reports/.\n" in output
    own = f"sqlite:///{project.root / 'src' / '..' / 'mlflow.db'}"  # else MLflow's engine would read the deleted file
    after = describe_runs(own)
    assert len(after) == 2
    for run in after.values():
        (original,) = [candidate for candidate in before.values() if candidate["tags"]["cell"] == run["tags"]["cell"]]
        for name in original["metrics"]:
            assert [(step, value) for step, _, value in run["metrics"][name]] == [
                (step, value) for step, _, value in original["metrics"][name]
            ]
        assert {key: original["params"][key] for key in run["params"]} == run["params"]
        figures = [item for item in original["artifacts"] if item[0].startswith("figures/")]
        assert figures == [item for item in run["artifacts"] if item[0].startswith("figures/")]
        assert run["models"] == len(run["versions"]) == 1
    assert registry(own) == registered
    assert project.run("car-or-truck", "promote", "--history") == history
    assert project.run("car-or-truck", "sync") == "2 trained models in models/: no runs had to be rebuilt.\n"
    assert describe_runs(own) == after
    assert registry(own) == registered

    project.run("dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", "results")
    project.run("dvc", "push")
    project.run("git", "clone", "-q", ".", str(tmp_path / "elsewhere"))
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.run("dvc", "pull")
    assert elsewhere.stale() == set()
    assert (elsewhere.root / "reports/report.html").is_file()
    output = elsewhere.run("car-or-truck", "sync")
    assert "2 runs had to be rebuilt" in output
    assert f"A models:/{SYNTHETIC}/N from elsewhere may mean another model" in output
    assert len(describe_runs(f"sqlite:///{elsewhere.root / 'mlflow.db'}")) == 2
