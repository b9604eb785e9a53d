"""Which process writes a run: its tag tells a training that was killed from one that goes on, here or elsewhere."""

from __future__ import annotations

import os
import platform

import psutil

TAG = "process"
CLOCK = 60  # seconds of tolerance: setting the clock shifts the start time that psutil computes


def this_process() -> str:
    """A name of this process that is unique over machines and time."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_gone(process: str) -> bool:
    """Whether a process named by `this_process` ran on this machine and has ended."""
    node, _, numbers = process.partition(":")
    pid, _, created = numbers.partition(":")
    if node != platform.node():
        return False
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(created)) > CLOCK
    except psutil.NoSuchProcess:
        return True
