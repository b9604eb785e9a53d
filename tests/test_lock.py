from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from car_or_truck.errors import Failure
from car_or_truck.lock import locked_stages

LOCK = "schema: '2.0'\nstages:\n  fetch:\n    cmd: a\n  train@net-1:\n    cmd: b\n"


def test_a_lock_that_dvc_is_writing_is_read_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("dvc.lock")
    assert locked_stages() == {}
    path.write_text(LOCK[: LOCK.index("  train")])  # valid, but half of it

    def write_on() -> None:
        for end in range(LOCK.index("  train"), len(LOCK), 8):
            time.sleep(0.05)
            path.write_text(LOCK[:end])
        path.write_text(LOCK)

    writer = threading.Thread(target=write_on)
    writer.start()
    assert locked_stages() == {"fetch": {"cmd": "a"}, "train@net-1": {"cmd": "b"}}
    writer.join()


def test_a_broken_lock_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for broken in (b"stages: {", b"stages: \xff", b"<<<<<<< HEAD\nstages:\n"):
        Path("dvc.lock").write_bytes(broken)
        os.utime("dvc.lock", (0, 0))  # nobody is writing it
        with pytest.raises(Failure, match=r"dvc\.lock is not valid YAML: .* Run `git checkout HEAD -- dvc\.lock`"):
            locked_stages()
