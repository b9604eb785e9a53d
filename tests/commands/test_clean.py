from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from rich.console import Console

from car_or_truck import params
from car_or_truck.commands import clean
from car_or_truck.errors import Failure
from car_or_truck.tracking import store
from helpers.clones import ROOT
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
        clean.clean(params.load(ROOT / "params.yaml"), Console(width=200), **options)
        return str(capsys.readouterr().out)

    return run


def left(store: Store) -> tuple[set[str], set[int], set[str]]:
    """The cells that have runs, the versions, and the cells whose artifacts are on the disk."""
    runs = store.client.search_runs([store.experiment], run_view_type=mlflow.entities.ViewType.ALL)
    folders = {path.name for path in (store.root / "mlruns" / NAME).iterdir()}
    versions = {int(version.version) for version in store.client.search_model_versions(f"name = '{NAME}'")}
    on_disk = {run.data.tags.get("cell", "") for run in runs if run.info.run_id in folders}
    assert len(folders - {"models"}) == len(runs)
    assert len(list((store.root / "mlruns" / NAME / "models").iterdir())) == len(runs)
    return {run.data.tags.get("cell", "") for run in runs}, versions, on_disk


def test_what_is_referred_to_stays_and_all_else_goes_with_its_artifacts(
    small_store: Store, cleaned: Callable[..., str]
) -> None:
    for cell in ("champion", "previous", "challenger", "stale", "current"):
        small_store.register(cell)
    small_store.register("tried", **{"dvc.exp": "more-dropout"})
    small_store.register("dropped", **{"dvc.exp": "less-dropout"})
    for number, alias in enumerate(("champion", "previous", "challenger"), 1):
        small_store.alias(alias, number)
    small_store.train("failed", "FAILED")
    small_store.train("training", "RUNNING")
    output(small_store, "tutorial", "current")
    before = left(small_store)

    said = cleaned(dry_run=True)
    assert "A dry run: nothing was removed" in said
    assert left(small_store) == before
    said = cleaned()
    for part in (
        "version 4 (stale-1), which has no alias",
        "version 7 (dropped-1)",
        "run failed-1",
        "Removed for good",
    ):
        assert part in said, part
    kept = {"champion", "previous", "challenger", "current", "tried", "training"}
    assert left(small_store) == (kept, {1, 2, 3, 5, 6}, kept)
    assert "Nothing to remove" in cleaned()


def test_a_run_that_the_project_did_not_make_stays(small_store: Store, cleaned: Callable[..., str]) -> None:
    run_id = small_store.train("x")
    small_store.client.delete_tag(run_id, "cell")
    output(small_store, "tutorial", "current")
    assert "Nothing to remove" in cleaned()


def test_artifacts_that_the_store_does_not_know_go(small_store: Store, cleaned: Callable[..., str]) -> None:
    small_store.train("current")
    output(small_store, "tutorial", "current")
    orphan = small_store.root / "mlruns" / NAME / "0123456789abcdef"
    orphan.mkdir()
    (orphan / "big").write_bytes(b"0" * 2_500_000)
    assert "that would free 2.5 MB" in cleaned(dry_run=True)
    cleaned()
    assert not orphan.exists()


def test_artifacts_of_another_store_are_not_touched(
    small_store: Store, cleaned: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output(small_store, "tutorial", "current")
    foreign = small_store.root / "mlruns" / NAME / "0123456789abcdef"
    foreign.mkdir(parents=True)
    (small_store.root / "mlflow.db").rename(tmp_path / "other.db")
    monkeypatch.setattr(store, "CHOSEN", f"sqlite:///{tmp_path / 'other.db'}")
    assert "Nothing to remove" in cleaned()
    assert foreign.exists()


@pytest.mark.parametrize("locked", [False, True])
def test_without_the_outputs_nothing_is_removed(locked: bool, small_store: Store, cleaned: Callable[..., str]) -> None:
    small_store.register("stale")
    if locked:  # one of the cells of params.yaml was trained, and is not checked out
        output(small_store, "exercise", "current")
        (small_store.root / "dvc.lock").write_text("schema: '2.0'\nstages: {train@tutorial-31415: {cmd: x}}\n")
    with pytest.raises(Failure, match="lacks tutorial-31415" if locked else "models/ is empty"):
        cleaned()
    assert left(small_store)[1] == {1}
