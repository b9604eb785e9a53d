"""Hosts of a test: network namespaces with addresses of their own, joined by a bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from helpers.clones import FOREIGN

DEFAULT = "route add default dev eth0"  # by it Ray finds its own address; it leads nowhere
NO_KAGGLE = {"KAGGLE_API_ENVIRONMENT": "TEST"}  # no proxy is needed: a namespace has no way out
NOTHING: Mapping[str, str] = {}


@dataclass
class Host:
    """A network namespace, with a home folder and processes of its own."""

    name: str
    address: str
    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, *command: str, folder: Path | None = None, variables: Mapping[str, str] = NOTHING
    ) -> subprocess.Popen[bytes]:
        """Start a command on this host; its output goes to a file in its home."""
        inherited = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        environment = {**inherited, **NO_KAGGLE, "HOME": str(self.home), **variables}
        with (self.home / f"{len(self.processes)}-{Path(command[0]).name}.txt").open("wb") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                cwd=folder or self.home,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, *command: str, folder: Path | None = None, variables: Mapping[str, str] = NOTHING) -> str:
        """Run a command on this host; returns its output, which must succeed."""
        process = self.start(*command, folder=folder, variables=variables)
        place = len(self.processes) - 1
        code = process.wait(timeout=1200)
        printed = (self.home / f"{place}-{Path(command[0]).name}.txt").read_text()
        assert code == 0, printed
        return printed

    def kill(self) -> None:
        """Kill every process of the host, as a power cut would."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout
        for number in map(int, listed.split()):
            try:
                psutil.Process(number).send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        for process in self.processes:
            process.wait(timeout=60)


def can_make_hosts() -> bool:
    """Whether this machine lets the tests make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"ct-probe-{os.getpid()}"  # of one of the processes that share the tests
    result = subprocess.run(["ip", "netns", "add", probe], capture_output=True)
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True)
    return result.returncode == 0


@contextmanager
def hosts(folder: Path, count: int) -> Iterator[list[Host]]:
    """So many hosts at 10.77.0.1, 10.77.0.2, ... with homes in `folder`."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    mine = f"ct{os.getpid()}"  # not another process's; Linux allows 15 letters
    bridge = f"{mine}-br"
    new_hosts = [
        Host(f"{mine}-{number}", f"10.77.0.{number}", folder / f"home{number}") for number in range(1, count + 1)
    ]
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for host in new_hosts:
            host.home.mkdir(parents=True)
            ip("netns", "add", host.name)
            ip("link", "add", f"{host.name}-out", "type", "veth", "peer", "name", "eth0", "netns", host.name)
            ip("link", "set", f"{host.name}-out", "master", bridge, "up")
            for command in (f"addr add {host.address}/24 dev eth0", "link set eth0 up", "link set lo up", DEFAULT):
                ip("-netns", host.name, *command.split())
        yield new_hosts
    finally:
        for host in new_hosts:
            host.kill()
            subprocess.run(["ip", "netns", "delete", host.name], capture_output=True)
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True)
