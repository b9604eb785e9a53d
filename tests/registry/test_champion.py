"""Moving the champion in a real store: the record, moves that are broken off, moves by hand, and others' moves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import mlflow
import pytest
from rich.console import Console

from car_or_truck import git
from car_or_truck.commands import promote as commands
from car_or_truck.errors import Failure
from car_or_truck.registry import champion as champions
from car_or_truck.registry import versions
from car_or_truck.registry.gates import POINTS, Decision, Gate
from car_or_truck.tracking import store as stores
from helpers.stores import NAME, Store

ACCURACY = Gate("accuracy", 0.9, ">=", 0.7)
PASSES = Decision((ACCURACY, Gate("accuracy minus champion's, lower end", None, ">=", -0.01, unit=POINTS)))
FAILS = Decision((ACCURACY, Gate("generalization gap", 0.5, "<=", 0.25, unit=POINTS)))
# Everything that a move changes in the store, in whatever order
CHANGES = (
    "create_experiment",
    "create_run",
    "log_batch",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "set_terminated",
)


class BrokenOff(Exception):
    pass


class Breaking:
    """A client that is cut off before its n-th change."""

    def __init__(self, client: mlflow.MlflowClient, left: int) -> None:
        self._client, self.left = client, left

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in CHANGES:
            return method

        def counted(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                raise BrokenOff
            self.left -= 1
            return method(*arguments, **options)

        return counted


def promote(client: Any, number: int, reason: str = "", decision: Decision = PASSES) -> None:
    """The command as a person runs it again and again: settle, then move, unless it is done."""
    champions.settle(client, NAME)
    champion = versions.aliases(client, NAME).get("champion")
    if champion is None or champion.number != number:
        champions.promote(client, versions.find(client, f"models:/{NAME}/{number}"), champion, decision, reason)


@pytest.fixture
def store(small_store: Store) -> Store:
    """A champion, 1, and a challenger, 2."""
    for cell in ("a", "b", "c"):
        small_store.register(cell)
    promote(small_store.client, 1)
    small_store.alias("challenger", 2)
    return small_store


def actions(store: Store) -> list[tuple[str, str, str]]:
    finished = [move for move in champions.history(store.client, NAME) if move.status == "FINISHED"]
    return [(move.action, move.before, move.version) for move in reversed(finished)]


def test_a_promotion_moves_the_aliases_and_is_written_to_the_version_and_the_record(store: Store) -> None:
    promote(store.client, 2, "it is better")
    assert store.aliases == {"champion": 2, "previous": 1}
    move, first = champions.history(store.client, NAME)
    assert (first.action, first.before, first.version) == ("promoted", "none", "1")
    assert (move.action, move.before, move.version) == ("promoted", "1", "2")
    assert (move.reason, move.verdict, move.person) == ("it is better", "all gates pass", git.person())
    tags = store.client.get_model_version(NAME, "2").tags
    moment = f"{move.time:%Y-%m-%dT%H:%M:%SZ}"
    assert tags["promotion"] == f"promoted {moment} by {move.person}: all gates pass: it is better"
    run = store.client.get_run(move.run_id)
    assert run.data.tags["mlflow.note.content"] == (
        f"Champion: [Version 2 of {NAME}](#/models/{NAME}/versions/2), promoted by {move.person}: all gates pass: "
        f"it is better. Before: [Version 1 of {NAME}](#/models/{NAME}/versions/1).\n\n"
        "| gate | value | must be | verdict | |\n|---|---:|---|---|---|\n"
        "| accuracy | 90.0% | >= 70.0% | PASS |  |\n"
        "| accuracy minus champion's, lower end |  | >= -1 points |  |  |"
    )
    assert run.data.metrics == {"accuracy": 0.9}  # in the UI, as a column
    assert run.info.run_name == "version 2 promoted"


def test_a_forced_promotion_records_the_failing_gate_and_the_reason(store: Store) -> None:
    promote(store.client, 2, "the demo is tonight", FAILS)
    move, _ = champions.history(store.client, NAME)
    assert (move.verdict, move.reason) == ("forced past the gates", "the demo is tonight")
    assert store.client.get_model_version(NAME, "2").tags["promotion"].endswith("the gates: the demo is tonight")
    run = store.client.get_run(move.run_id)
    assert (
        "| generalization gap | 50 points | <= 25 points | FAIL by 25 points |" in run.data.tags["mlflow.note.content"]
    )
    assert run.data.metrics == {"accuracy": 0.9, "generalization_gap": 0.5}


def test_a_rollback_swaps_champion_and_previous_and_once_more_undoes_it(store: Store) -> None:
    promote(store.client, 2)
    champions.roll_back(store.client, NAME)
    assert store.aliases == {"champion": 1, "previous": 2}
    champions.roll_back(store.client, NAME)
    assert store.aliases == {"champion": 2, "previous": 1}
    assert actions(store)[-2:] == [("rolled back to", "2", "1"), ("rolled back to", "1", "2")]


def test_a_champion_that_is_the_previous_one_too_is_not_rolled_back_to(store: Store) -> None:
    store.client.delete_registered_model_alias(NAME, "champion")
    promote(store.client, 1)
    with pytest.raises(Failure, match=r"Nothing to roll back to: version 1 .* is the previous champion, too\."):
        champions.roll_back(store.client, NAME)


def test_a_record_in_the_trash_is_named_with_the_way_out(store: Store) -> None:
    experiment = store.client.get_experiment_by_name(f"{NAME}-promotions").experiment_id
    store.client.delete_experiment(experiment)
    with pytest.raises(Failure, match=rf"'{NAME}-promotions' is in the trash.*\n.*--experiment-id {experiment},"):
        promote(store.client, 2)


def test_without_a_previous_champion_there_is_nothing_to_roll_back_to(store: Store) -> None:
    with pytest.raises(Failure, match="Nothing to roll back to: car-or-truck has no previous"):
        champions.roll_back(store.client, NAME)


@pytest.mark.slow
def test_a_promotion_broken_off_before_any_of_its_steps_is_completed_by_running_it_again(
    empty_database: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for left in range(30):
        store = Store(tmp_path / str(left), empty_database)
        monkeypatch.chdir(store.root)
        for cell in ("a", "b"):
            store.register(cell)
        promote(store.client, 1)
        store.alias("challenger", 2)
        whole = True
        try:
            promote(Breaking(store.client, left), 2)
        except BrokenOff:
            whole = False
            assert store.aliases["champion"] in (1, 2)
            promote(store.client, 2)
        assert store.aliases == {"champion": 2, "previous": 1}
        assert actions(store) == [("promoted", "none", "1"), ("promoted", "1", "2")]
        assert store.client.get_model_version(NAME, "2").tags["promotion"].endswith(": all gates pass")
        assert "RUNNING" not in {move.status for move in champions.history(store.client, NAME)}
        if whole:
            assert left > 6  # there were steps to break off before
            return
    raise AssertionError("the promotion has no end")


def test_after_a_promotion_that_was_broken_off_a_rollback_leads_back_to_the_last_champion(store: Store) -> None:
    promote(store.client, 2)
    with pytest.raises(BrokenOff):
        promote(Breaking(store.client, 3), 3)  # the champion has moved; previous has not
    assert store.aliases["champion"] == 3
    lines = champions.settle(store.client, NAME)
    assert len(lines) == 1
    assert "was interrupted; it is complete now" in lines[0]
    champions.roll_back(store.client, NAME)
    assert store.aliases == {"champion": 2, "previous": 3}


def test_a_move_made_by_hand_is_recognised_once_and_can_be_rolled_back(store: Store) -> None:
    store.alias("champion", 3)
    assert champions.settle(store.client, NAME) == [
        "The champion was moved by hand, from version 1 to version 3; this is recorded now."
    ]
    assert champions.settle(store.client, NAME) == []
    assert actions(store)[-1] == ("moved by hand", "1", "3")
    champions.roll_back(store.client, NAME)
    assert store.aliases == {"champion": 1, "previous": 3, "challenger": 2}


def test_a_champion_that_was_removed_by_hand_is_recognised(store: Store) -> None:
    store.client.delete_registered_model_alias(NAME, "champion")
    assert champions.settle(store.client, NAME) == [
        "The champion was moved by hand, from version 1 to none; this is recorded now."
    ]
    promote(store.client, 2)
    assert store.aliases == {"champion": 2, "previous": 1}


def test_a_removal_by_hand_whose_record_was_broken_off_is_completed(store: Store) -> None:
    store.client.delete_registered_model_alias(NAME, "champion")
    champions._record(store.client, NAME, champions.Move(champions.BY_HAND, champions.NOBODY, "1", "unknown"))
    (line,) = champions.settle(store.client, NAME)
    assert line.endswith("was interrupted; it is complete now.")
    assert actions(store)[-1] == ("moved by hand", "1", "none")
    assert champions.settle(store.client, NAME) == []


def test_a_version_whose_run_was_deleted_is_not_rolled_back_to(store: Store) -> None:
    promote(store.client, 2)
    store.client.delete_run(versions.find(store.client, "1").run_id)
    with pytest.raises(Failure, match=r"^version 1 \(.*\) of car-or-truck has lost its run or its model"):
        champions.roll_back(store.client, NAME)
    assert store.aliases == {"champion": 2, "previous": 1}


def test_a_champion_that_a_person_removed_is_not_brought_back_with_an_earlier_move(store: Store) -> None:
    promote(store.client, 2)
    _, first = champions.history(store.client, NAME)
    store.client.delete_run(first.run_id)
    store.client.delete_registered_model_alias(NAME, "champion")
    assert champions.restore(store.client, NAME) == 1
    assert store.aliases == {"previous": 1}


def test_a_previous_champion_that_was_deleted_is_left_out(store: Store) -> None:
    store.client.delete_registered_model_alias(NAME, "champion")
    store.client.delete_model_version(NAME, "1")
    promote(store.client, 2)
    assert store.aliases == {"champion": 2}


def test_whoever_is_overtaken_by_someone_else_on_the_server_is_told(store: Store) -> None:
    class Overtaken(Breaking):
        def set_model_version_tag(self, *arguments: Any) -> None:
            store.alias("champion", 3)

    with pytest.raises(Failure, match=r"Someone else made version 3 .* the champion of car-or-truck meanwhile"):
        promote(Overtaken(store.client, 99), 2)
    assert store.aliases["champion"] == 3
    champions.settle(store.client, NAME)
    assert actions(store)[-1] == ("moved by hand", "2", "3")


def test_whoever_judged_against_an_earlier_champion_moves_nothing(store: Store) -> None:
    judged = versions.aliases(store.client, NAME)["champion"]
    promote(store.client, 2)  # someone else, meanwhile
    with pytest.raises(Failure, match=r"Someone else made version 2 .* the champion of car-or-truck meanwhile"):
        champions.promote(store.client, versions.find(store.client, f"models:/{NAME}/3"), judged, PASSES, "")
    assert store.aliases == {"champion": 2, "previous": 1}
    assert actions(store)[-1] == ("promoted", "1", "2")
    assert champions.settle(store.client, NAME) == []


def test_the_record_is_in_the_order_of_the_moves_whatever_the_clocks_say(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for number, clock in ((2, now + 300), (3, now), (1, now - 300)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        promote(store.client, number)
        assert champions.settle(store.client, NAME) == []
    assert actions(store)[-3:] == [("promoted", "1", "2"), ("promoted", "2", "3"), ("promoted", "3", "1")]


def test_without_a_champion_the_previous_one_is_it_again(store: Store) -> None:
    promote(store.client, 2)
    store.client.delete_registered_model_alias(NAME, "champion")
    champions.settle(store.client, NAME)
    store.alias("previous", 1)
    assert champions.roll_back(store.client, NAME)[1] is None
    assert store.aliases["champion"] == 1
    assert actions(store)[-1] == ("rolled back to", "none", "1")


def test_a_record_that_was_lost_is_restored_whole_however_often_that_is_broken_off(store: Store) -> None:
    promote(store.client, 2, "it is better", FAILS)
    champions.roll_back(store.client, NAME)
    store.alias("champion", 3)
    champions.settle(store.client, NAME)
    promote(store.client, 2)

    def read_record() -> list[Any]:
        record = [replace(move, run_id="") for move in champions.history(store.client, NAME)]
        return [record, store.aliases, *(store.client.get_model_version(NAME, number).tags for number in "123")]

    before = read_record()
    assert champions.restore(store.client, NAME) == 0
    for move in champions.history(store.client, NAME):
        store.client.delete_run(move.run_id)
        for key in store.client.get_model_version(NAME, move.version).tags:
            if key.startswith("promotion"):
                store.client.delete_model_version_tag(NAME, move.version, key)
    for alias in store.aliases:
        store.client.delete_registered_model_alias(NAME, alias)
    assert store.aliases == {}
    for steps in (0, 1, 2, 3, 5, 7, 9, 99):
        with suppress(BrokenOff):
            champions.restore(Breaking(store.client, steps), NAME)
    assert read_record() == before
    assert champions.settle(store.client, NAME) == []


def test_a_champion_that_is_there_stays_when_earlier_ones_are_restored(store: Store) -> None:
    (move,) = champions.history(store.client, NAME)
    store.client.delete_run(move.run_id)
    store.alias("champion", 3)
    assert champions.restore(store.client, NAME) == 1
    assert store.aliases["champion"] == 3
    assert actions(store) == [("promoted", "none", "1")]
    (move,) = champions.history(store.client, NAME)
    assert store.client.get_run(move.run_id).data.metrics == {"accuracy": 0.9}


def test_two_moves_of_the_champion_take_turns_and_a_killed_one_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]):\n print(flush=True)\n time.sleep(60)"
    promote(store.client, 2)
    lock = store.root / ".dvc/tmp/locks/promotion.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        monkeypatch.setattr(stores, "PATIENCE", 0.01)
        rollback = threading.Thread(target=commands.rollback, args=[Console()])
        rollback.start()
        output = ""
        while "waiting for it" not in output:
            output += capsys.readouterr().err
            rollback.join(0.05)
            assert rollback.is_alive()
        assert store.aliases["champion"] == 2
        other.kill()
        rollback.join()
    assert store.aliases["champion"] == 1
