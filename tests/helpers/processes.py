"""Trainings to kill, and servers to ask."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests

from helpers.clones import SPARING, Project, environment, interruptible

EPOCHS = 30


def longer(tree: Any, epochs: int = EPOCHS) -> None:
    tree["variants"]["tutorial"]["epochs"] = epochs
    tree["variants"]["tutorial"]["head"]["dropout"] = 0.3


def start(project: Project, *command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command or ["car-or-truck", "train", "tutorial", "31415"],
        cwd=project.root,
        env=environment(**variables),
        preexec_fn=interruptible,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def await_epochs(process: subprocess.Popen[str], count: int) -> str:
    """Read what it prints until so many epochs are done."""
    return await_line(process, r" +\d+/\d+ ", count)


def await_line(process: subprocess.Popen[str], pattern: str, count: int = 1) -> str:
    """Read what it prints until so many lines begin like this."""
    printed = ""
    assert process.stdout
    for line in process.stdout:
        printed += line
        count -= bool(re.match(pattern, line))
        if not count:
            return printed
    raise AssertionError(f"it ended too early: {printed}")


@contextmanager
def running(project: Project, *command: str, ready: str, **variables: str) -> Iterator[str]:
    """A server at a free port, which prints into server.txt; yields its address.

    MLflow and moto take the port from the environment; another command says {port} where it belongs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTHONPATH"))}
    log = project.root / "server.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            cwd=project.root,
            env={**inherited, **SPARING, "MLFLOW_PORT": str(port), "MOTO_PORT": str(port), **variables},
            stdout=output,
            stderr=output,
            process_group=0,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            waited_since = time.monotonic()
            while True:
                try:
                    if requests.get(address + ready, timeout=5).ok:
                        break
                except requests.RequestException:
                    pass
                assert server.poll() is None, log.read_text()
                assert time.monotonic() - waited_since < 180, log.read_text()
                time.sleep(0.3)
            yield address
        finally:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(server.pid, 15)
            server.wait(timeout=60)
