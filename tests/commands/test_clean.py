from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import ViewType
from rich.console import Console

from car_or_truck import files, params
from car_or_truck.cells import names
from car_or_truck.commands import clean, sync
from car_or_truck.errors import Failure
from car_or_truck.tracking import delivery, store, version_copies
from helpers.clones import ROOT, Project
from helpers.processes import running
from helpers.stores import NAME, Store


def output(store: Store, variant: str, cell: str) -> None:
    """A trained cell in models/."""
    folder = store.root / "models" / variant / "31415"
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(json.dumps({"cell": cell}))


@pytest.fixture
def cleaned(small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., str]:
    """The command; there is one DVC experiment, more-dropout."""
    monkeypatch.setattr(clean, "dvc_experiments", lambda: {"more-dropout"})

    def run(**options: bool) -> str:
        shipped = params.load(ROOT / "params.yaml")
        train = shipped.train.model_copy(update={"variants": ("tutorial", "exercise"), "seeds": (31415,)})
        clean.clean(shipped.model_copy(update={"train": train}), Console(width=200), **options)
        return str(capsys.readouterr().out)

    return run


def active(store: Store) -> tuple[set[str], set[int]]:
    """The cells that have runs, and the versions. Every such run has its model, and no other model is left."""
    runs = store.client.search_runs([store.experiment], "tags.cell LIKE '%'")
    versions = {int(version.version) for version in store.client.search_model_versions(f"name = '{NAME}'")}
    models = store.client.search_logged_models([store.experiment])
    assert {model.source_run_id for model in models} == {run.info.run_id for run in runs}
    return {run.data.tags["cell"] for run in runs}, versions


def comparisons(store: Store) -> set[str]:
    runs = store.client.search_runs([store.experiment], "tags.comparison LIKE '%'")
    return {run.data.tags["comparison"] for run in runs}


def trash(store: Store) -> list[Any]:
    return list(store.client.search_runs([store.experiment], run_view_type=ViewType.DELETED_ONLY))


def list_files(store: Store) -> set[str]:
    folder = store.root / "mlruns"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def newest(mlflow_store: Store) -> str:
    (run,) = mlflow_store.client.search_runs([mlflow_store.experiment], max_results=1)
    return str(run.info.run_id)


@pytest.fixture
def full_store(small_store: Store) -> Store:
    """Cells with an alias, an output or a DVC experiment, one that is under way, and three that nothing refers to."""
    for cell in ("champion", "previous", "challenger", "stale", "current"):
        small_store.register(cell)
    small_store.register("tried", **{"dvc.exp": "more-dropout"})
    small_store.register("dropped", **{"dvc.exp": "less-dropout"})
    for number, alias in enumerate(("champion", "previous", "challenger"), 1):
        small_store.alias(alias, number)
    small_store.train("failed", "FAILED")
    small_store.train("training", "RUNNING")
    output(small_store, "tutorial", "current")
    return small_store


KEPT = {"champion", "previous", "challenger", "current", "tried", "training"}


def test_what_is_referred_to_stays_and_all_else_goes_into_the_trash(
    full_store: Store, cleaned: Callable[..., str]
) -> None:
    before, files = active(full_store), list_files(full_store)
    assert "Dry run: nothing was removed" in cleaned(dry_run=True)
    assert active(full_store) == before
    printed = cleaned()
    for part in (
        "version 4 (stale-1), which has no alias",
        "version 7 (dropped-1)",
        "run failed-1",
        "Moved to the trash.",
        "Versions have none: those are removed.",
        f"`mlflow gc --backend-store-uri sqlite:///{full_store.root}/mlflow.db --tracking-uri sqlite:",
    ):
        assert part in printed, part
    assert active(full_store) == (KEPT, {1, 2, 3, 5, 6})
    assert list_files(full_store) == files  # so that what is in the trash is whole
    assert "Nothing to remove" in cleaned()


@pytest.mark.slow
def test_dvc_is_asked_for_its_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match=r"`dvc exp list .*, so DVC's experiments are not known"):
        clean.dvc_experiments()
    project = Project(tmp_path)
    for command in ("git init -q -b main", "dvc init -q", "git commit -q -m start"):
        project.run(*command.split())
    assert clean.dvc_experiments() == set()
    project.run("dvc", "exp", "save", "-n", "more-dropout")
    assert clean.dvc_experiments() == {"more-dropout"}


@pytest.mark.slow
def test_the_cells_of_branches_and_of_experiments_are_known_though_not_checked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert clean.recorded_cells() == set()
    project = Project(tmp_path)
    for command in ("git init -q -b main", "dvc init -q"):
        project.run(*command.split())
    copying = {
        "cmd": "for name in a b; do mkdir -p models/$name/1; cp $name models/$name/1/cell.json; done",
        "deps": ["a", "b"],
        "outs": ["models/a/1", "models/b/1"],
    }
    files.write_json(tmp_path / "dvc.yaml", {"stages": {"train": copying}})
    for cell in ("on-a-branch", "tagged", "of-a-colleague", "earlier", "committed"):
        files.write_json(tmp_path / "a", {"cell": cell})
        files.write_json(tmp_path / "b", {"cell": f"{cell}-too"})
        project.run("dvc", "repro")
        project.run("git", "add", ".")
        project.run("git", "commit", "-q", "-m", cell)
        if cell == "on-a-branch":
            project.run("git", "branch", "kept")
        if cell == "tagged":
            project.run("git", "tag", "kept-too")
        if cell == "of-a-colleague":
            project.run("git", "update-ref", "refs/remotes/origin/theirs", "HEAD")
    files.write_json(tmp_path / "a", {"cell": "experimental"})
    project.run("dvc", "exp", "run", "-n", "tried")
    project.run("dvc", "exp", "rename", "tried", "renamed")
    shutil.rmtree("models")
    kept = ("on-a-branch", "tagged", "of-a-colleague", "committed")
    known = {"experimental", *kept, *(f"{cell}-too" for cell in kept)}
    assert clean.recorded_cells() == known
    for path in Path(".dvc/cache/files/md5").glob("*/*"):
        if b'"on-a-branch"' in path.read_bytes():
            path.unlink()
    assert clean.recorded_cells() == known - {"on-a-branch"}


def test_a_git_that_does_not_answer_is_no_git_without_branches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Project(tmp_path).run("git", "init", "-q")
    (tmp_path / ".git/HEAD").unlink()
    with pytest.raises(Failure, match=r"`git for-each-ref .*` fails, so the models of branches and tags are not known"):
        clean.recorded_cells()


def test_what_a_running_dvc_experiment_has_trained_stays(full_store: Store, cleaned: Callable[..., str]) -> None:
    folder = full_store.root / ".dvc/tmp/exps/standalone/tmp1/models/tutorial/1"
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(json.dumps({"cell": "dropped"}))
    cleaned()
    assert active(full_store) == (KEPT | {"dropped"}, {1, 2, 3, 5, 6, 7})


@pytest.mark.usefixtures("full_store")
def test_a_damaged_model_folder_is_named_with_the_way_out(cleaned: Callable[..., str]) -> None:
    Path("models/dropped/1").mkdir(parents=True)
    Path("models/dropped/1/cell.json").write_text("{")
    with pytest.raises(Failure, match=r"models/dropped/1/cell\.json .*Remove that folder"):
        cleaned()


def test_a_stopped_training_that_is_to_be_resumed_keeps_its_run(full_store: Store, cleaned: Callable[..., str]) -> None:
    folder = full_store.root / ".dvc/tmp/training"
    folder.mkdir(parents=True)
    (folder / "failed.npz").touch()  # its checkpoint
    cleaned()
    assert active(full_store)[0] == KEPT | {"failed"}


def test_the_model_of_a_run_that_a_person_deleted_goes_too(full_store: Store, cleaned: Callable[..., str]) -> None:
    client = full_store.client
    stale = client.get_model_version(NAME, "4").run_id
    own = client.create_logged_model(full_store.experiment, name="of-a-person")  # without a run
    client.delete_run(stale)
    cleaned()
    models = client.search_logged_models([full_store.experiment])
    assert stale not in {model.source_run_id for model in models}
    assert own.model_id in {model.model_id for model in models}


def test_a_model_that_a_person_registered_under_another_name_stays(
    full_store: Store, cleaned: Callable[..., str]
) -> None:
    client, stale = full_store.client, full_store.client.get_model_version(NAME, "4")
    client.create_registered_model("best")
    client.create_model_version("best", stale.source, stale.run_id, model_id=stale.model_id)
    cleaned()
    assert active(full_store) == (KEPT | {"stale"}, {1, 2, 3, 4, 5, 6})


def test_a_version_that_a_person_registered_by_hand_stays(full_store: Store, cleaned: Callable[..., str]) -> None:
    full_store.client.create_model_version(NAME, full_store.client.get_model_version(NAME, "1").source)
    cleaned()
    assert active(full_store) == (KEPT, {1, 2, 3, 5, 6, 8})


def test_the_runs_in_the_trash_can_be_restored_whole(full_store: Store, cleaned: Callable[..., str]) -> None:
    cleaned()
    assert {run.data.tags["cell"] for run in trash(full_store)} == {"stale", "dropped", "failed"}
    for run in trash(full_store):
        full_store.client.restore_run(run.info.run_id)
        text = full_store.client.download_artifacts(run.info.run_id, "trace/text.txt", str(full_store.root))
        assert Path(text).read_text() == "x" * 1000
    assert trash(full_store) == []
    runs = full_store.client.search_runs([full_store.experiment], "tags.cell LIKE '%'")
    assert {run.data.tags["cell"] for run in runs} == KEPT | {"stale", "dropped", "failed"}


@pytest.mark.slow
def test_the_command_that_it_names_empties_the_trash_and_nothing_else(
    full_store: Store, cleaned: Callable[..., str]
) -> None:
    old, newest = full_store.compare("old"), full_store.compare("new")
    printed = cleaned()
    trashed_ids = {run.info.run_id for run in trash(full_store)}
    assert old in trashed_ids
    command = re.findall(r"`(mlflow gc [^`]+)`", printed.replace("\n", " "))
    before = active(full_store)
    Project(full_store.root).run(*shlex.split(command[0]))
    assert trash(full_store) == []
    assert active(full_store) == before
    assert comparisons(full_store) == {"new"}
    kept_ids = {run.info.run_id for run in full_store.client.search_runs([full_store.experiment])}
    folders = {path.split("/")[1] for path in list_files(full_store)} - {"models"}
    assert newest in kept_ids
    assert folders == kept_ids
    assert len(list((full_store.root / "mlruns" / NAME / "models").rglob("MLmodel"))) == len(before[0])


def test_only_the_newest_comparison_stays_and_the_others_can_be_restored(
    small_store: Store, cleaned: Callable[..., str]
) -> None:
    small_store.train("current")
    output(small_store, "tutorial", "current")
    older = [small_store.compare(digest) for digest in ("first", "second")]
    small_store.compare("newest")
    small_store.compare("broken off", "FAILED")
    small_store.compare("under way", "RUNNING")
    printed = cleaned()
    assert printed.count("run comparison") == 3
    assert comparisons(small_store) == {"newest", "under way"}
    for run_id in older:
        small_store.client.restore_run(run_id)
    assert comparisons(small_store) == {"first", "second", "newest", "under way"}
    for name in ("first", "second"):
        (run,) = small_store.client.search_runs([small_store.experiment], f"tags.comparison = '{name}'")
        report = small_store.client.download_artifacts(run.info.run_id, "report.html", str(small_store.root))
        assert Path(report).read_text() == name


def test_a_run_that_the_project_did_not_make_stays(small_store: Store, cleaned: Callable[..., str]) -> None:
    run_id = small_store.train("x")
    small_store.client.delete_tag(run_id, "cell")
    output(small_store, "tutorial", "current")
    assert "Nothing to remove" in cleaned()


def test_folders_that_the_store_does_not_know_are_not_touched(small_store: Store, cleaned: Callable[..., str]) -> None:
    """They may be another store's."""
    small_store.train("current")
    small_store.train("stale")
    output(small_store, "tutorial", "current")
    foreign = small_store.root / "mlruns" / NAME / "0123456789abcdef"
    foreign.mkdir()
    (foreign / "big").write_bytes(b"0" * 2_500_000)
    assert "run stale-1" in cleaned()
    assert (foreign / "big").stat().st_size == 2_500_000


def test_what_lies_in_another_folder_is_kept_and_named(small_store: Store, cleaned: Callable[..., str]) -> None:
    """Deleting it, and emptying the trash, would delete the other project's."""
    small_store.train("current")
    output(small_store, "tutorial", "current")
    runs = {}
    for cell in ("run", "model", "trashed", "stale"):
        small_store.register(cell)
        runs[cell] = newest(small_store)
    with closing(sqlite3.connect(small_store.root / "mlflow.db")) as database, database:
        elsewhere = "replace({0}, '/store/mlruns/', '/other/mlruns/')"
        for table, column, key, cell in (
            ("runs", "artifact_uri", "run_uuid", "run"),
            ("logged_models", "artifact_location", "source_run_id", "model"),
            ("model_versions", "storage_location", "run_id", "trashed"),
        ):
            change = f"UPDATE {table} SET {column} = {elsewhere.format(column)} WHERE {key} = ?"
            assert database.execute(change, [runs[cell]]).rowcount == 1
    small_store.client.delete_run(runs["trashed"])
    printed = cleaned()
    lines = [line for line in printed.splitlines() if ": kept " in line]
    assert [line.split(", which lies in file://")[0] for line in lines] == [
        f"{NAME}: kept run model-1 {runs['model'][:8]} (finished)",
        f"{NAME}: kept run run-1 {runs['run'][:8]} (finished)",
        f"{NAME}: kept version 3 (trashed-1)",
    ]
    assert all("/other/mlruns/" in line for line in lines)
    remaining_runs = small_store.client.search_runs([small_store.experiment])
    assert {run.data.tags["cell"] for run in remaining_runs} == {"current", "run", "model"}
    numbers = {int(version.version) for version in small_store.client.search_model_versions(f"name = '{NAME}'")}
    assert numbers == {1, 2, 3}


@pytest.mark.slow
def test_on_a_server_only_what_was_delivered_from_here_is_removed(
    small_store: Store, cleaned: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small_store.train("current")
    output(small_store, "tutorial", "current")
    stale = small_store.train("stale")
    (tmp_path / "server").mkdir()
    options = ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./artifacts", "--workers", "1"]
    with running(Project(tmp_path / "server"), "mlflow", "server", *options, ready="/health") as address:
        monkeypatch.setattr(store, "CHOSEN", address)
        delivery.deliver(stale, address)
        client = mlflow.MlflowClient(address)
        experiment = client.get_experiment_by_name(NAME).experiment_id
        for tags in ({}, {delivery.ORIGIN: "0" * 32}):
            client.create_run(experiment, tags={"cell": "theirs", **tags}, run_name="theirs-1")
        for run in client.search_runs([experiment], "tags.cell = 'theirs'"):
            client.set_terminated(run.info.run_id)
        client.create_registered_model(NAME)
        for name, others in (("shared", f", {run.info.run_id}"), ("own", "")):
            copy, _ = delivery.deliver(small_store.train(name), address)
            tags = {"cell": name, version_copies.RUNS: f"{copy}{others}"}
            client.create_model_version(NAME, f"runs:/{copy}/model", copy, tags)
        printed = cleaned()
        assert printed.count("which was not delivered from here") == printed.count("kept run theirs-1") == 2
        assert [run.data.tags["cell"] for run in client.search_runs([experiment])] == ["shared", "theirs", "theirs"]
        (version,) = client.search_model_versions(f"name = '{NAME}'")
        assert client.get_run(version.run_id).data.tags["cell"] == "shared"
        assert sync._deliver(address, trained=set()) == 1  # "current"; what was removed stays so,
        assert sync._deliver(address, trained={"stale"}) == 1  # unless it was trained again
        assert len(client.search_runs([experiment], "tags.cell = 'stale'")) == 1
        (small_store.root / "mlflow.db").unlink()
        assert "kept run theirs-1" in cleaned(dry_run=True)
        assert sync._deliver(address, trained=set()) == 0
        assert not (small_store.root / "mlflow.db").exists()


def test_the_comparison_in_reports_stays_though_another_is_newer(
    small_store: Store, cleaned: Callable[..., str]
) -> None:
    small_store.train("current")
    output(small_store, "tutorial", "current")
    summary = {"verdict": ["of the models that are here now"]}
    files.write_json(small_store.root / "reports/comparison.json", summary)
    present = names.comparison_digest(summary)
    for digest in (present, "second", "an experiment's"):
        small_store.compare(digest)
    cleaned()
    assert comparisons(small_store) == {present, "an experiment's"}


@pytest.mark.parametrize("locked", [False, True])
def test_without_the_outputs_nothing_is_removed(locked: bool, small_store: Store, cleaned: Callable[..., str]) -> None:
    small_store.register("stale")
    if locked:  # one of the cells of params.yaml was trained, and is not checked out
        output(small_store, "exercise", "current")
        (small_store.root / "dvc.lock").write_text("schema: '2.0'\nstages: {train@tutorial-31415: {cmd: x}}\n")
        os.utime(small_store.root / "dvc.lock", (0, 0))  # nobody is writing it
    with pytest.raises(Failure, match="lacks tutorial-31415" if locked else "models/ is empty"):
        cleaned()
    assert active(small_store) == ({"stale"}, {1})
