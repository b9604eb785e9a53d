"""The project's own store in a folder that was moved or copied: real MLflow stores, and real files."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking._tracking_service import utils
from rich.console import Console

from car_or_truck import params
from car_or_truck.commands import clean, sync
from car_or_truck.errors import Failure
from car_or_truck.registry import versions
from car_or_truck.tracking import processes, relocation, store
from helpers.clones import ROOT, Project
from helpers.stores import NAME, SYNTHETIC, Store

KILLED = """
import os, signal, sys
from pathlib import Path
from car_or_truck.tracking import relocation

relocated, calls = relocation._relocated, iter(range(int(sys.argv[1])))

def killed(location, moves):
    if next(calls, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return relocated(location, moves)

relocation._relocated = killed
relocation.settle(Path("mlflow.db"))
"""
SETTLE = "from pathlib import Path; from car_or_truck.tracking import relocation; relocation.settle(Path('mlflow.db'))"


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Stand in a project's folder, as a process that starts there."""

    def start(root: Path) -> None:
        monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())  # MLflow's memory of where runs lie
        monkeypatch.chdir(root)

    return start


@pytest.fixture
def original(empty_database: Path, tmp_path: Path) -> Store:
    """A store with a version that has an alias, a run in the trash, and an experiment that the UI made."""
    old_store = Store(tmp_path / "größer als 50% #1", empty_database)
    old_store.alias("champion", old_store.register("a"))
    old_store.client.delete_run(old_store.train("b"))
    old_store.client.create_experiment(
        "mine", (tmp_path / "größer als 50% #1 too" / "mlruns" / NAME).as_uri() + "/mine"
    )
    old_store.client.set_tag(old_store.train("c"), "made.in", str(old_store.root))
    return old_store


def locations(root: Path) -> set[str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        return {
            location
            for table, column in relocation.LOCATIONS
            for (location,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        }


def contents(root: Path) -> dict[str, bytes]:
    files = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in files.items() if name.parts[0] != ".dvc"}  # locks


def check_whole(root: Path) -> None:
    """All that the store in `root`, where the test stands, knows lies in it, and can be read."""
    client = store.open_store()
    experiment = client.get_experiment_by_name(NAME)
    assert experiment.artifact_location == (root / "mlruns" / NAME).as_uri()
    runs = client.search_runs([experiment.experiment_id], run_view_type=3)
    assert {run.data.tags["cell"] for run in runs} >= {"a", "b", "c"}
    for run in runs:
        assert run.info.artifact_uri.startswith((root / "mlruns" / NAME).as_uri())
        assert [item.path for item in client.list_artifacts(run.info.run_id, "trace")] == ["trace/text.txt"]
    version = versions.find(client, f"models:/{NAME}@champion")
    place = client.get_model_version_download_uri(NAME, str(version.number))
    assert place.startswith((root / "mlruns" / NAME / "models").as_uri())
    assert Path(mlflow.artifacts.download_artifacts(version.uri), "MLmodel").is_file()


def test_a_moved_folder_takes_its_store_along(
    original: Store, stand: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = original.root, original.root.with_name("verschoben nach ~ é")
    places = locations(before)
    before.rename(after)
    stand(after)
    check_whole(after)
    output = capsys.readouterr().err.splitlines()
    assert output == [f"{after}/mlflow.db was in {before}: its locations now name {after}."]
    names = {(before.as_uri(), after.as_uri()), (str(before), str(after))}
    moved = {
        next((new + place[len(old) :] for old, new in names if f"{place}/".startswith(f"{old}/")), place)
        for place in places
    }
    assert locations(after) == moved
    assert any(" too" in location or "%20too" in location for location in moved)  # nor is its neighbour's
    with closing(sqlite3.connect(after / "mlflow.db.before-relocation")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    experiment = store.connect(NAME)
    (run,) = mlflow.MlflowClient().search_runs([experiment], "tags.`made.in` LIKE '%'")
    assert run.data.tags["made.in"] == str(before)  # what is history stays
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("minutes", "refused"), [(1, True), (60, False)])
def test_a_store_that_a_training_elsewhere_writes_to_stays_where_it_is(
    minutes: int, refused: bool, original: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = round(1000 * (time.time() - 60 * minutes))
    tags = {"cell": "d", processes.TAG: "the-host:1:1.00"}
    run = original.client.create_run(original.experiment, start_time=epoch - 1, tags=tags)
    original.client.log_metric(run.info.run_id, "loss", 0.5, epoch)
    moved = Path(shutil.move(original.root, tmp_path / "as the container has it"))
    before = locations(moved)
    monkeypatch.chdir(moved)
    says = r"A training on the-host writes to .*Let it end first"
    with pytest.raises(Failure, match=says) if refused else nullcontext():
        store.open_store()
    assert (locations(moved) == before) is refused


@pytest.mark.parametrize("use", [store.open_store, lambda: store.connect(NAME)], ids=["open", "connect"])
def test_a_copy_is_refused_with_the_way_out_and_nothing_is_written(
    use: Callable[[], object], original: Store, stand: Callable[[Path], None]
) -> None:
    copy = Path(shutil.copytree(original.root, original.root.with_name("copy")))
    before = contents(original.root), contents(copy)
    stand(copy)
    with pytest.raises(Failure) as caught:
        use()
    assert str(caught.value).splitlines() == [
        f"{copy}/mlflow.db is a copy of the store in {original.root}, and would write into the mlruns/ there.",
        "`car-or-truck sync --independent` gives it artifacts of its own.",
    ]
    assert (contents(original.root), contents(copy)) == before
    stand(original.root)
    check_whole(original.root)


def test_a_copy_made_independent_and_its_original_work_on_their_own(
    original: Store,
    stand: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = Path(shutil.copytree(original.root, original.root.with_name("copy")))
    changed = next(copy.glob(f"mlruns/{NAME}/*/artifacts/trace/text.txt"))
    changed.write_text("y" * 1000)
    for lost in [path for path in copy.glob(f"mlruns/{NAME}/*/artifacts") if path not in changed.parents]:
        shutil.rmtree(lost)
    originals = contents(original.root)
    stand(copy)
    sync.sync(params.load(ROOT / "params.yaml"), independent=True)
    check_whole(copy)
    assert changed.read_text() == "y" * 1000
    assert contents(original.root) == originals
    sync.sync(params.load(ROOT / "params.yaml"), independent=True)
    assert "is independent already" in capsys.readouterr().out

    monkeypatch.setattr(clean, "dvc_experiments", set)
    for root, other_root in ((copy, original.root), (original.root, copy)):
        stand(root)
        others = contents(other_root)
        own_store = Store.__new__(Store)
        own_store.root, own_store.client, own_store.experiment = root, store.open_store(), original.experiment
        run = own_store.client.get_run(own_store.train(f"new in {root.name}"))
        assert relocation.lies_in(run.info.artifact_uri, root / "mlruns")
        folder = root / "models" / "tutorial" / "31415"
        folder.mkdir(parents=True)
        (folder / "cell.json").write_text(json.dumps({"cell": "a"}))
        clean.clean(params.load(ROOT / "params.yaml"), Console(width=200))
        assert f"run new in {root.name}-1" in capsys.readouterr().out
        left = own_store.client.search_runs([original.experiment])
        assert {run.data.tags["cell"] for run in left} == {"a"}
        assert contents(other_root) == others


def test_a_database_on_its_own_gets_its_artifacts_from_where_they_are(
    original: Store, stand: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = original.root.with_name("fresh")
    (fresh / ".dvc").mkdir(parents=True)
    (fresh / "dvc.yaml").touch()
    shutil.move(original.root / "mlflow.db", fresh)  # the artifacts stay
    stand(fresh)
    with pytest.raises(Failure, match="is a copy of the store"):
        store.open_store()
    assert store.make_independent()
    check_whole(fresh)
    capsys.readouterr()
    shutil.rmtree(original.root)
    elsewhere = original.root.with_name("elsewhere")
    elsewhere.mkdir()
    shutil.move(fresh / "mlflow.db", elsewhere)
    shutil.rmtree(fresh)  # and now there are none
    stand(elsewhere)
    store.open_store()
    assert capsys.readouterr().err.endswith("3 of its models are not there.\n")


def test_a_copy_inside_of_its_original_is_told_from_it(
    small_store: Store, stand: Callable[[Path], None], tmp_path: Path
) -> None:
    for cell in ("a", "b", "c"):
        small_store.alias("champion", small_store.register(cell))
    inner = shutil.copytree(small_store.root, tmp_path / "copy").rename(small_store.root / "copy")
    stand(inner)
    assert store.make_independent()
    check_whole(inner)
    assert not store.make_independent()
    inner.joinpath("mlflow.db").rename(tmp_path / "mlflow.db")  # locations in both folders: each stays what it is
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        inner_uri, outer_uri = (str(root.as_uri()) for root in (inner, small_store.root))
        connection.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", (inner_uri, outer_uri)
        )
    (tmp_path / "mlflow.db").rename(inner / "mlflow.db")
    assert store.make_independent()
    check_whole(inner)


@pytest.mark.parametrize("calls", [0, 4, 12])
def test_a_kill_while_locations_are_rewritten_leaves_the_store_as_it_was(
    calls: int, small_store: Store, stand: Callable[[Path], None]
) -> None:
    for cell in ("a", "b", "c"):
        small_store.alias("champion", small_store.register(cell))
    before, after = locations(small_store.root), small_store.root.with_name("after")
    small_store.root.rename(after)
    process = subprocess.run([sys.executable, "-c", KILLED, str(calls)], cwd=after)
    assert process.returncode == -signal.SIGKILL
    assert locations(after) == before
    stand(after)
    check_whole(after)


def test_processes_that_open_a_moved_store_at_once_rewrite_it_once(
    small_store: Store, stand: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    for cell in ("a", "b", "c"):
        small_store.alias("champion", small_store.register(cell))
    after = small_store.root.rename(small_store.root.with_name("after"))
    processes = [subprocess.Popen([sys.executable, "-c", SETTLE], cwd=after) for _ in range(3)]
    threads = [threading.Thread(target=relocation.settle, args=[after / "mlflow.db"]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert capfd.readouterr().err.count("its locations now name") == 1
    stand(after)
    check_whole(after)


def test_a_link_to_the_root_or_to_the_database_is_the_same_store(
    original: Store, stand: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = locations(original.root)
    (tmp_path / "link").symlink_to(original.root)
    stand(tmp_path / "link")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "link"))
    store.open_store()
    assert store.connect(NAME) == original.experiment
    shared = tmp_path / "worktree"
    (shared / ".dvc").mkdir(parents=True)
    (shared / "mlflow.db").symlink_to(original.root / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(shared))
    assert store.connect(NAME) == original.experiment
    assert locations(original.root) == before
    assert not list(tmp_path.glob("*/mlflow.db.*"))


def test_an_experiment_that_dvc_runs_in_a_folder_of_its_own_shares_the_store(
    original: Store, stand: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = original.root / ".dvc" / "tmp" / "exps" / "tmpabc"
    temporary.mkdir(parents=True)
    (temporary / "dvc.yaml").touch()
    stand(temporary)
    monkeypatch.setenv("DVC_ROOT", str(original.root))
    run = mlflow.MlflowClient().create_run(store.connect(NAME))
    assert relocation.lies_in(run.info.artifact_uri, original.root / "mlruns" / NAME)
    assert [path.name for path in original.root.glob("mlflow.db*")] == ["mlflow.db"]


def test_a_moved_store_that_cannot_be_written_says_so(small_store: Store, stand: Callable[[Path], None]) -> None:
    after = small_store.root.rename(small_store.root.with_name("after"))
    (after / "mlflow.db.before-relocation.part").mkdir()
    stand(after)
    with pytest.raises(Failure, match=r"The locations in .*/mlflow.db cannot be made to name .*/after: ") as caught:
        store.open_store()
    assert len(str(caught.value).splitlines()) == 1


def test_two_folders_that_share_mlruns_are_not_made_independent(
    original: Store, stand: Callable[[Path], None], tmp_path: Path
) -> None:
    (original.root / "mlruns").rename(tmp_path / "disk")
    (original.root / "mlruns").symlink_to(tmp_path / "disk")
    copy = Path(shutil.copytree(original.root, original.root.with_name("copy"), symlinks=True))
    stand(copy)
    with pytest.raises(Failure, match=r"copy/mlruns is the folder of .* too. Replace the link"):
        store.make_independent()


@pytest.mark.slow
def test_a_finished_project_goes_on_where_it_is_moved_and_where_it_is_copied(project: Project, tmp_path: Path) -> None:
    moved = Project(project.root.rename(tmp_path / "moved here"))
    assert "was in" in moved.run("car-or-truck", "promote", "--history")
    picture = next(moved.root.glob("data/raw/valid/*/*"))
    moved.run("car-or-truck", "predict", str(picture), "--model", "1")
    copy = Project(Path(shutil.copytree(moved.root, tmp_path / "copy", symlinks=True)))
    copy.edit(lambda tree: tree["variants"]["tutorial"].update(epochs=3))
    before = contents(moved.root / "mlruns")
    assert "is a copy of the store in" in copy.run("dvc", "repro", code=None)
    assert contents(moved.root / "mlruns") == before
    assert "no runs had to be rebuilt" in copy.run("car-or-truck", "sync", "--independent")
    copy.run("dvc", "repro")
    copy.run("car-or-truck", "clean")
    options = f"--backend-store-uri sqlite:///{copy.root}/mlflow.db --tracking-uri sqlite:///{copy.root}/mlflow.db"
    copy.run("mlflow", "gc", *options.split())
    assert contents(moved.root / "mlruns") == before
    copy.run("dvc", "exp", "run", "--temp", "-S", "variants.exercise.epochs=1")
    assert contents(moved.root / "mlruns") == before
    for each in (moved, copy):
        each.run("car-or-truck", "predict", str(picture), "--model", "models:/car-or-truck-rendered@challenger")
        client = mlflow.MlflowClient(f"sqlite:///{each.root}/mlflow.db")
        experiment = client.get_experiment_by_name(SYNTHETIC).experiment_id
        for run in client.search_runs([experiment]):
            assert relocation.lies_in(run.info.artifact_uri, each.root / "mlruns")
    assert contents(moved.root / "mlruns") == before


@pytest.mark.parametrize(
    ("before", "after"), [("file:///home/net", "file:///home"), ("file:///home", "file:///home/net")]
)
def test_a_project_may_move_into_a_folder_of_its_own_and_out_of_it(before: str, after: str) -> None:
    moves = {f"{before}/mlruns": f"{after}/mlruns", before: after}
    for place in ("mlruns/run", "other"):
        moved = relocation._relocated(f"{before}/{place}", moves)
        assert moved == f"{after}/{place}"
        assert relocation._relocated(moved, moves) == moved
    assert relocation._relocated("s3://bucket/run", moves) == "s3://bucket/run"
    assert relocation._relocated(None, moves) is None
