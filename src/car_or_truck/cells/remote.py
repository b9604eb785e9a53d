"""Small files beside the cache in DVC's remote: the checkpoint of a training, and who works on a cell."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from car_or_truck.errors import Failure, summarize
from car_or_truck.train.checkpoint import Checkpoint

FOLDER = "car-or-truck"  # in the remote
CHECKPOINT_SECONDS = "CAR_OR_TRUCK_CHECKPOINT_SECONDS"  # set by `work` for the trainings that it starts
HEARTBEAT = 10.0  # seconds between two signs of life of a worker
SILENCE = 45.0  # seconds without one, after which a worker counts as dead


class Remote:
    """The folder in DVC's default remote. Raises Failure when there is none."""

    def __init__(self) -> None:
        from dvc.config import NoRemoteError
        from dvc.repo import Repo

        try:
            with Repo() as repo:
                remote = repo.cloud.get_remote()
        except NoRemoteError:
            raise Failure("DVC has no remote to share models by; `dvc remote add -d NAME URL` adds one.") from None
        self.fs, self.folder = remote.fs, remote.fs.join(remote.path, FOLDER)

    def place(self, *parts: str) -> str:
        """The address of a file."""
        return str(self.fs.join(self.folder, *parts))

    def bring(self, saved: Checkpoint) -> None:
        """Load the remote's checkpoint, if there is one that is further than this."""
        place = self.place("checkpoints", saved.path.name)
        if not self.fs.exists(place):
            return
        other = Checkpoint(saved.path.with_suffix(".remote"))
        try:
            self.fs.get_file(place, str(other.path))
            other.read()
            if other.state.epoch > saved.state.epoch:
                other.path.replace(saved.path)
                saved.state = other.state
                print(f"The checkpoint of epoch {saved.state.epoch} came from DVC's remote.", flush=True)
        finally:
            other.remove()

    @contextmanager
    def holding(self, task: str) -> Iterator[bool]:
        """Work at a task, a cell of a commit; waits while a living worker elsewhere does, and yields whether it waited.

        A worker lives whose sign of life changes while this one looks on: the clocks of two machines may differ.
        Two that start within the same second may both go on: they do the same work twice, to the same bytes.
        """
        place, me = self.place("workers", f"{task}.json"), f"{platform.node()}:{os.getpid()}"
        waited, last_sign, since = False, None, time.monotonic()
        while (sign := self._sign(place)) is not None and sign.get("worker") != me:
            if sign and sign != last_sign:
                last_sign, since = sign, time.monotonic()
            elif time.monotonic() - since > SILENCE:
                break
            if not waited:
                print(f"{task}: {sign.get('worker', 'another worker')} may be working on it; waiting.", flush=True)
                waited = True
            time.sleep(HEARTBEAT / 2)
        stop_event = threading.Event()

        def live() -> None:
            while True:
                with suppress(Exception):  # each file system raises its own; the next one may come through
                    self.fs.pipe_file(place, json.dumps({"worker": me, "time": time.time()}).encode())
                if stop_event.wait(HEARTBEAT):
                    return

        self.fs.makedirs(self.fs.parent(place), exist_ok=True)
        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        try:
            yield waited
        finally:
            stop_event.set()
            thread.join()
            with suppress(Exception):  # what is left of a worker counts as dead after SILENCE
                if (self._sign(place) or {}).get("worker") == me:  # else another one took over
                    self.fs.remove(place)

    def _sign(self, place: str) -> dict[str, Any] | None:
        """The last sign of life of the worker who has the cell; empty if it cannot be read now, None without one."""
        try:
            return dict(json.loads(self.fs.cat_file(place)))
        except FileNotFoundError:
            return None
        except Exception:  # it is being written, or the network is down: each file system raises its own
            return {}


def shared_checkpoint(saved: Checkpoint) -> Callable[[], None]:
    """Go on from the remote's checkpoint, if `work` started this training; returns what to call after each epoch.

    That sends the checkpoint when so many seconds have passed as `work` was told. A remote that fails costs the
    copy, never the training.
    """
    seconds = os.environ.get(CHECKPOINT_SECONDS)
    if seconds is None:
        return lambda: None
    remote = Remote()
    try:
        remote.bring(saved)
    except Exception as error:  # each file system raises its own
        print(f"No checkpoint came from DVC's remote: {summarize(error, 200)}", flush=True)
    place, sent = remote.place("checkpoints", saved.path.name), time.monotonic()

    def send() -> None:
        nonlocal sent
        if time.monotonic() - sent < float(seconds):
            return
        sent = time.monotonic()
        try:
            remote.fs.makedirs(remote.fs.parent(place), exist_ok=True)
            remote.fs.put_file(str(saved.path), place)
        except Exception as error:
            print(f"The checkpoint was not sent to DVC's remote: {summarize(error, 200)}", flush=True)

    return send


def remove_checkpoint(remote: Remote, fingerprint: str) -> None:
    """Remove the copy of a checkpoint: its model is in the remote. Where that is refused, a leftover takes up room."""
    with suppress(Exception):  # each file system raises its own
        remote.fs.remove(remote.place("checkpoints", f"{fingerprint}.npz"))
