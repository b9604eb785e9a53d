from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.fs import LocalFileSystem

from car_or_truck.cells import remote
from car_or_truck.cells.remote import Remote
from car_or_truck.train.checkpoint import Checkpoint


@pytest.fixture
def local_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A remote in a folder, with quick signs of life."""
    monkeypatch.setattr(remote, "HEARTBEAT", 0.01)
    instance = Remote.__new__(Remote)
    instance.fs, instance.folder = LocalFileSystem(), str(tmp_path / "remote")
    return instance


def signs(local_remote: Remote, count: int) -> list[float]:
    """So many different signs of life, as they come."""
    times: list[float] = []
    place, deadline = local_remote.place("workers", "net-1.json"), time.monotonic() + 20
    while len(times) < count and time.monotonic() < deadline:
        with suppress(FileNotFoundError, ValueError):  # while it is being written
            sign = json.loads(local_remote.fs.cat_file(place))["time"]
            times += [sign] * (sign not in times)
    return times


def test_a_worker_lives_on_after_a_request_that_failed(local_remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_file, failures = local_remote.fs.pipe_file, [OSError("the network is down")] * 3

    def unreliable(*arguments: Any) -> None:
        if failures and local_remote.fs.exists(local_remote.place("workers", "net-1.json")):
            raise failures.pop()
        pipe_file(*arguments)

    monkeypatch.setattr(local_remote.fs, "pipe_file", unreliable)
    with local_remote.holding("net-1"):
        assert len(signs(local_remote, 4)) == 4
    assert not failures
    assert not local_remote.fs.exists(local_remote.place("workers", "net-1.json"))


def test_the_sign_of_another_worker_stays(local_remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    place = local_remote.place("workers", "net-1.json")
    with local_remote.holding("net-1"):
        assert signs(local_remote, 1)
        cut_off = threading.Event()
        monkeypatch.setattr(local_remote.fs, "pipe_file", lambda *_: cut_off.set())
        assert cut_off.wait(60)  # and another takes over
        Path(place).write_text(json.dumps({"worker": "another:1", "time": time.time()}))
    assert json.loads(local_remote.fs.cat_file(place))["worker"] == "another:1"


@pytest.mark.parametrize("error", [-3600, 3600])  # of the other machine's clock, in seconds
def test_a_worker_is_waited_for_as_long_as_it_gives_signs(
    error: float, local_remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENCE", 2.0)
    place = Path(local_remote.place("workers", "net-1.json"))
    place.parent.mkdir(parents=True)
    last = 0.0

    def work() -> None:
        nonlocal last
        for _ in range(20):
            part = place.with_suffix(".part")
            part.write_text(json.dumps({"worker": "another:1", "time": time.time() + error}))
            last = time.monotonic()
            part.replace(place)
            time.sleep(0.05)

    other = threading.Thread(target=work)
    other.start()
    while not place.exists():
        time.sleep(0.01)
    with local_remote.holding("net-1") as waited:
        taken = time.monotonic()
        other.join()
        assert waited
    assert taken - last >= 2


def test_a_remote_that_fails_costs_the_copy_and_never_the_training(
    local_remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(remote.CHECKPOINT_SECONDS, "0")
    monkeypatch.setattr(remote, "Remote", lambda: local_remote)
    saved = Checkpoint(tmp_path / "net.npz")
    saved.state.variables = [np.arange(3.0)]
    with monkeypatch.context() as down:
        for name in ("exists", "put_file"):
            down.setattr(local_remote.fs, name, refuse)
        send = remote.shared_checkpoint(saved)
        saved.state.epoch = 1
        saved.write()
        send()
    output = capsys.readouterr().out.splitlines()
    assert output == [
        "No checkpoint came from DVC's remote: the network is down",
        "The checkpoint was not sent to DVC's remote: the network is down",
    ]
    send()
    elsewhere = Checkpoint(tmp_path / "elsewhere" / "net.npz")
    elsewhere.path.parent.mkdir()
    remote.shared_checkpoint(elsewhere)
    assert elsewhere.state.epoch == 1
    assert "The checkpoint of epoch 1 came from DVC's remote." in capsys.readouterr().out


def test_of_two_checkpoints_the_further_one_is_taken(
    local_remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.CHECKPOINT_SECONDS, "0")
    monkeypatch.setattr(remote, "Remote", lambda: local_remote)
    mine, theirs = (Checkpoint(tmp_path / worker / "net.npz") for worker in ("mine", "theirs"))
    for saved, epoch in ((mine, 10), (theirs, 30)):
        saved.path.parent.mkdir()
        saved.state.epoch = epoch
        saved.write()
    remote.shared_checkpoint(theirs)()
    remote.shared_checkpoint(mine)
    checkpoint = Checkpoint(mine.path)
    checkpoint.read()
    assert mine.state.epoch == checkpoint.state.epoch == 30
    mine.state.epoch = 40
    mine.write()
    remote.shared_checkpoint(mine)
    assert mine.state.epoch == 40
    assert [path.name for path in mine.path.parent.iterdir()] == ["net.npz"]


def test_a_remote_that_refuses_to_remove_a_checkpoint_keeps_it(
    local_remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_remote.fs, "remove", refuse)
    remote.remove_checkpoint(local_remote, "net")


def test_a_sign_that_cannot_be_read_does_not_end_the_waiting(
    local_remote: Remote, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "SILENCE", 1.0)
    place = Path(local_remote.place("workers", "net-1.json"))
    place.parent.mkdir(parents=True)
    place.write_text("")  # it is being written
    cat_file, failures = local_remote.fs.cat_file, [OSError("the network is down")] * 3

    def unreliable(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return cat_file(*arguments)

    monkeypatch.setattr(local_remote.fs, "cat_file", unreliable)
    started = time.monotonic()
    with local_remote.holding("net-1") as waited:
        assert waited
        assert time.monotonic() - started >= 1
    assert not failures
    assert capsys.readouterr().out == "net-1: another worker may be working on it; waiting.\n"


def refuse(*_: Any) -> None:
    raise OSError("the network is down")
