"""What the benchmarks share: a description of the machine, a clone to measure in, and the cost of a command."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from car_or_truck.cells.times import processor

ROOT = Path(__file__).parent.parent


def machine() -> str:
    """The cores, the processor, its bfloat16 features, and the versions that matter, in one line."""
    versions = ", ".join(f"{name} {version(name.lower())}" for name in ("TensorFlow", "MLflow", "DVC"))
    return f"{processor()}, Python {platform.python_version()}, {versions}"


def clone(folder: Path, change: Callable[[Any], object]) -> Path:
    """Clone the last commit of this repository into a folder, and change its params.yaml."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    edit(folder, change)
    return folder


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change a clone's params.yaml."""
    yaml, path = YAML(), folder / "params.yaml"
    tree = yaml.load(path)
    change(tree)
    yaml.dump(tree, path)


def use_archive(tree: Any, path: str) -> None:
    """Make the dataset's zip the only source of images."""
    tree["data"]["sources"] = ["archive"]
    tree["data"]["archive"]["url"] = str(Path(path).resolve())


def child_cpu_seconds() -> float:
    """CPU seconds of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    """The environment of the commands: `dvc` and `car-or-truck` of this Python, and MLflow's store in the clone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | {"PATH": path}


def cost(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall time and CPU seconds of a command. Exits with its output if it fails."""
    cpu, start = child_cpu_seconds(), time.monotonic()
    process = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stdout}")
    return time.monotonic() - start, child_cpu_seconds() - cpu
