"""What another store is told of a run that it has already."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model

from car_or_truck.errors import Failure
from car_or_truck.evaluate.reliability import Reliability
from car_or_truck.tracking import copies, delivery, runs, store
from helpers.clones import Project
from helpers.registered import version
from helpers.stores import Store


def test_a_delivered_model_gets_what_a_later_evaluation_measured(
    client: mlflow.MlflowClient, project: Project, empty_database: Path, tmp_path: Path
) -> None:
    run_id, server_uri = version(client, "exercise").run_id, f"sqlite:///{tmp_path / 'there.db'}"
    shutil.copyfile(empty_database, tmp_path / "there.db")

    def deliver() -> tuple[str, bool]:
        mlflow.set_tracking_uri(server_uri)  # a store that is a file looks its models up in the current one
        try:
            return delivery.deliver(run_id, server_uri)
        finally:
            mlflow.set_tracking_uri(store.own())

    copy, added = deliver()
    assert added
    remote = mlflow.MlflowClient(server_uri)
    (model,) = remote.get_run(copy).outputs.model_outputs
    model_folder = Path(remote.get_logged_model(model.model_id).artifact_location.removeprefix("file://"))
    path = project.root / "reports/cells/exercise/31415/reliability.npz"
    assert (model_folder / "data/reliability.npz").read_bytes() == path.read_bytes()
    assert deliver() == (copy, False)

    measured = Reliability.load(path)
    assert measured
    replace(measured, temperature=1.25).save(path)
    runs.add_reliability(run_id, path)
    assert deliver() == (copy, True)
    assert (model_folder / "data/reliability.npz").read_bytes() == path.read_bytes()
    assert deliver() == (copy, False)


@pytest.mark.parametrize("deleted", ["here", "there"])
def test_a_logged_model_that_was_deleted_does_not_stop_the_delivery_of_its_run(
    deleted: str, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, server = (Store(tmp_path / name, empty_database) for name in ("ours", "server"))
    monkeypatch.chdir(ours.root)
    run_id = ours.train("net")
    model = ours.client.search_logged_models([ours.experiment])[0]
    about = Model(run_id=run_id, model_id=model.model_id)
    about.save(str(ours.root / f"mlruns/car-or-truck/models/{model.model_id}/artifacts/MLmodel"))
    ours.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    if deleted == "there":
        copy, _ = delivery.deliver(run_id, server.client.tracking_uri)
        (output,) = server.client.get_run(copy).outputs.model_outputs
        server.client.delete_logged_model(output.model_id)
    else:
        ours.client.delete_logged_model(model.model_id)
    ours.client.set_tag(run_id, "note", "new")
    copy, added = delivery.deliver(run_id, server.client.tracking_uri)
    assert added
    assert server.client.get_run(copy).data.tags["note"] == "new"
    assert delivery.deliver(run_id, server.client.tracking_uri) == (copy, False)
    assert server.client.search_logged_models([server.experiment]) == []


@pytest.mark.parametrize("lost", ["models", "trace", "MLmodel"])
def test_a_run_whose_files_are_gone_here_does_not_stop_the_delivery_of_others(
    lost: str,
    empty_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, server = (Store(tmp_path / name, empty_database) for name in ("ours", "server"))
    monkeypatch.chdir(ours.root)
    copies._say_once.cache_clear()
    run_id = ours.train("net")
    folder, words = ours.root / "mlruns/car-or-truck", "files are missing here, and not delivered"
    if lost != "trace":
        model = ours.client.search_logged_models([ours.experiment])[0]
        ours.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    if lost == "MLmodel":
        next(folder.rglob("MLmodel")).unlink()
        words = "a kill left half of its model here, which is not delivered."
    else:
        shutil.rmtree(folder / (lost if lost == "models" else run_id))
    copy, added = delivery.deliver(run_id, server.client.tracking_uri)
    assert added
    assert server.client.get_run(copy).info.status == "FINISHED"
    assert f"net-1: {words}" in capsys.readouterr().out


def test_an_experiment_in_the_servers_trash_is_said_with_the_way_to_bring_it_back(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, server = (Store(tmp_path / name, empty_database) for name in ("ours", "server"))
    monkeypatch.chdir(ours.root)
    run_id, server_uri = ours.train("net"), server.client.tracking_uri
    server.client.delete_experiment(server.experiment)
    remedy = f"mlflow experiments restore --experiment-id {server.experiment}, with MLFLOW_TRACKING_URI={server_uri}"
    with pytest.raises(Failure, match="'car-or-truck' is in the trash") as caught:
        delivery.deliver(run_id, server_uri)
    assert str(caught.value).endswith(remedy)
    monkeypatch.setattr(store, "server", lambda: server_uri)
    delivery.hand_over(run_id)  # the stage goes on
    assert "did not take this run (The MLflow experiment 'car-or-truck' is in the trash." in capsys.readouterr().out


def test_an_address_that_no_server_has_stops_no_stage(
    small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_store.root)
    run_id = small_store.train("net")
    monkeypatch.setattr(store, "server", lambda: "postgresql+nodriver://me:secret@host/mlflow")
    delivery.hand_over(run_id)
    courier = delivery.Courier(run_id, str(store.server()))
    courier.call()
    courier.close()
    assert capsys.readouterr().out.count("The tracking server postgresql+nodriver://***@host/mlflow did not take") == 2


def test_the_end_of_a_training_does_not_wait_for_a_server_that_failed_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hanging, end = threading.Event(), threading.Event()

    def deliver(*_: Any, **__: Any) -> None:
        if not courier.failed:
            raise OSError("it is down")
        hanging.set()
        end.wait(120)

    monkeypatch.setattr(delivery, "deliver", deliver)
    courier = delivery.Courier("0" * 32, "http://server")
    while not hanging.is_set():
        courier.call()
        time.sleep(0.01)
    since = time.monotonic()
    courier.close()
    assert time.monotonic() - since < delivery.PATIENCE / 2
    output = capsys.readouterr().out
    end.set()
    courier.thread.join()
    assert output.count("did not take this run") == 1
