"""The project's own store, made by a process that is killed while it makes it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from car_or_truck import cli
from car_or_truck.errors import Failure
from car_or_truck.tracking import processes, store
from helpers.stores import NAME, Store

TABLES = (3, 15, 30)  # of about 60
# Keeps a copy of the database, journal included, at each of TABLES, and kills itself at the last one.
KILLED = f"""
import os, shutil, signal
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from car_or_truck.tracking import store

made = 0

@event.listens_for(Engine, "after_cursor_execute")
def watch(connection, cursor, statement, *_):
    global made
    if not statement.lstrip().upper().startswith("CREATE TABLE"):
        return
    made += 1
    if made in {TABLES}:
        folder = Path("kept", str(made))
        folder.mkdir()
        for path in Path().glob("mlflow.db.part*"):
            shutil.copyfile(path, folder / path.name.replace(".part", ""))
    if made == {TABLES[-1]}:
        os.kill(os.getpid(), signal.SIGKILL)

store.connect("{NAME}")
"""
INCOMPLETE = "mlflow.db is incomplete: the process that was creating it was killed, so it holds no runs. Delete it"


def tables(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
            return int(count)
    except sqlite3.Error:
        return 0


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first process was killed while it made the store; in kept/N/mlflow.db as it was at N tables."""
    root = tmp_path_factory.mktemp("killed")
    (root / "dvc.yaml").touch()
    (root / ".dvc").mkdir()
    (root / "kept").mkdir()
    process = subprocess.run([sys.executable, "-c", KILLED], cwd=root)
    assert process.returncode == -signal.SIGKILL
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a store, that the test stands in."""
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "CREATION_SECONDS", 0)
    return tmp_path


@pytest.mark.slow
def test_a_kill_while_the_store_is_made_leaves_none_and_the_next_command_makes_it(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(killed)
    assert tables(killed / "mlflow.db.part")
    assert not (killed / "mlflow.db").exists()
    with pytest.raises(Failure, match=r"There is no MLflow store .*/mlflow.db"):
        store.open_store()
    experiment = store.connect(NAME)
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("accuracy", 0.5)
    assert store.open_store().get_run(run.info.run_id).data.metrics == {"accuracy": 0.5}
    assert [path.name for path in killed.glob("mlflow.db*")] == ["mlflow.db"]


@pytest.mark.parametrize("count", TABLES)
@pytest.mark.parametrize("use", [store.open_store, lambda: store.connect(NAME)], ids=["open", "connect"])
def test_a_store_that_was_half_made_is_refused_with_the_way_out_and_left_as_it_is(
    use: Callable[[], object], count: int, killed: Path, project: Path
) -> None:
    for path in (killed / "kept" / str(count)).iterdir():
        shutil.copyfile(path, project / path.name)
    before = tables(project / "mlflow.db")
    assert before
    with pytest.raises(Failure) as caught:
        use()
    assert INCOMPLETE in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert tables(project / "mlflow.db") == before


def test_a_store_that_another_process_is_making_is_waited_for(
    killed: Path, project: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(killed / "kept" / str(TABLES[-1]) / "mlflow.db", project / "mlflow.db")
    monkeypatch.setattr(store, "CREATION_SECONDS", 60)
    monkeypatch.setattr(time, "sleep", lambda _: shutil.copyfile(empty_database, project / "mlflow.db"))
    store.open_store()


def test_a_store_with_runs_is_never_called_half_made(small_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CREATION_SECONDS", 0)
    run_id = small_store.train("a")
    with closing(sqlite3.connect(small_store.root / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM experiments WHERE experiment_id = 0")  # `mlflow gc` after a deletion in the UI
    assert store.open_store().get_run(run_id).data.tags["cell"] == "a"
    assert store.connect(NAME) == small_store.experiment


def test_a_run_whose_process_is_gone_is_closed_by_the_next_command(
    small_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    ended_id = small_store.train("gone", "RUNNING", **{processes.TAG: f"{platform.node()}:{ended.pid}:0.00"})
    live_id = small_store.train("here", "RUNNING", **{processes.TAG: processes.this_process()})
    store.connect(NAME)
    assert capsys.readouterr().out == "MLflow run gone-1: its process is gone, so it is marked KILLED.\n"
    assert [small_store.client.get_run(run_id).info.status for run_id in (ended_id, live_id)] == ["KILLED", "RUNNING"]
    store.connect(NAME)
    assert capsys.readouterr().out == ""


def test_a_file_that_is_no_database_is_said_to_be_unusable(project: Path) -> None:
    (project / "mlflow.db").write_bytes(b"not a database, but for all that a file" * 100)
    with pytest.raises(Failure, match=r"The MLflow store sqlite:.*mlflow.db cannot be used: .* Move it away"):
        store.open_store()


def test_a_locked_store_is_said_in_one_line(
    small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_store.root)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # which the command changes
    monkeypatch.setattr(cli, "app", lambda: small_store.client.create_registered_model("another"))

    def impatient(_1: object, _2: object, statement: str, parameters: object, *_: object) -> tuple[str, object]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 100"), parameters

    with closing(sqlite3.connect(small_store.root / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        event.listen(Engine, "before_cursor_execute", impatient, retval=True)  # MLflow waits 20 seconds
        try:
            with pytest.raises(SystemExit):
                cli.main()
        finally:
            event.remove(Engine, "before_cursor_execute", impatient)
    output = capsys.readouterr().err
    assert output.startswith("The MLflow store sqlite:")
    assert output.endswith("Another process writes to it: try again.\n")
    assert output.count("\n") == 1


def test_waiting_for_another_command_is_said(
    small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.01)
    folder = small_store.root / ".dvc/tmp/locks"
    folder.mkdir(parents=True)
    holding = "import filelock\nwith filelock.FileLock('promotion.lock'): print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holding], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def wait() -> None:
        with store.one_at_a_time("promotion"):
            pass

    with other:
        assert other.stdout
        other.stdout.readline()
        waiting, output = threading.Thread(target=wait), ""
        waiting.start()
        while "waiting for it" not in output:
            output += capsys.readouterr().err
            waiting.join(0.01)
            assert waiting.is_alive()
        assert f"holds {folder}/promotion.lock; waiting for it" in output
        other.communicate("\n")
        waiting.join()
    with store.one_at_a_time("promotion"):  # it was released
        assert capsys.readouterr().err == ""


def test_models_are_registered_where_their_runs_are() -> None:
    script = "import car_or_truck.tracking.store, mlflow; print(mlflow.get_registry_uri() == mlflow.get_tracking_uri())"
    environment = {**os.environ, "MLFLOW_REGISTRY_URI": "sqlite:///elsewhere.db"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"


def test_a_store_named_by_a_relative_address_is_the_same_in_every_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHOSEN", "sqlite:///mlflow.db")
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    assert store.own() == store.default_store() == f"sqlite:///{project / 'mlflow.db'}"


def test_what_runs_leave_in_a_store_of_another_name_lies_in_the_project_too(
    project: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(empty_database, project / "other.db")
    monkeypatch.setattr(store, "CHOSEN", "sqlite:///other.db")
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")  # as the temporary folder of a DVC experiment is
    experiment = mlflow.get_experiment(store.connect(NAME))
    assert experiment.artifact_location == (project / "mlruns" / NAME).as_uri()


@pytest.mark.parametrize(
    "address", ["./mlruns", "file:///srv/mlruns", "sqlite://other.db", "sqlite:other.db", "mlflow.example.org:5000"]
)
def test_an_address_where_no_store_can_be_is_refused_with_those_that_can(
    address: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHOSEN", address)
    for use in (store.open_store, lambda: store.connect(NAME)):
        with pytest.raises(Failure, match=rf"{address}, where no runs can be: give http://HOST:PORT or sqlite:///F"):
            use()


@pytest.mark.parametrize("name", ["50%20off", "what?"])
def test_a_folder_that_no_address_can_hold_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(Failure, match="in its path, which means something else in an address"):
        store.connect(NAME)
    assert [path.name for path in tmp_path.rglob("*")] == [name, "dvc.yaml"]


def test_a_link_to_a_store_whose_disk_is_not_there_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").symlink_to(tmp_path / "disk/mlflow.db")
    with pytest.raises(
        Failure, match=r"mlflow\.db is a link to .*disk/mlflow\.db, which is not there\. Mount its disk"
    ):
        store.connect("car-or-truck")
    assert (tmp_path / "mlflow.db").is_symlink()


def test_a_store_elsewhere_keeps_its_artifacts_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(store, "CHOSEN", f"sqlite:///{tmp_path / 'store/team.db'}")
    experiment_id = store.connect("car-or-truck")
    experiment = mlflow.MlflowClient().get_experiment(experiment_id)
    assert experiment.artifact_location == (tmp_path / "store/mlruns/car-or-truck").as_uri()
    store.connect("car-or-truck")  # is not taken for the copy of another store
