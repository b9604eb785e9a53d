"""What the benchmarks share: the machine's name, a clone to measure in, and what a command cost."""

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

ROOT = Path(__file__).parent.parent


def machine() -> str:
    """One line: processor, its cores, whether it computes in bfloat16, and the versions that matter."""
    described = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    processor = {key.strip(): value.strip() for key, value in described}
    bfloat16 = {"avx512_bf16", "amx_bf16"} & set(processor.get("flags", "").split())
    return (
        f"{len(os.sched_getaffinity(0))} cores of {processor.get('model name', platform.machine())} "
        f"({', '.join(sorted(bfloat16)) or 'no bfloat16'}), Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}, MLflow {version('mlflow')}, DVC {version('dvc')}"
    )


def clone(folder: Path, change: Callable[[Any], object]) -> Path:
    """What is committed here, cloned into a folder, with its params.yaml changed."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    edit(folder, change)
    return folder


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change a clone's params.yaml."""
    yaml, path = YAML(), folder / "params.yaml"
    tree = yaml.load(path)
    change(tree)
    yaml.dump(tree, path)


def archive(tree: Any, path: str) -> None:
    """Set the data set's zip as the only source of images."""
    tree["data"]["sources"] = ["archive"]
    tree["data"]["archive"]["url"] = str(Path(path).resolve())


def children() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    """That of the commands: `dvc` and `car-or-truck` beside this Python, and the store in the clone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | {"PATH": path}


def cost(command: list[str], folder: Path) -> tuple[float, float]:
    """(seconds by the clock, CPU seconds) of a command; where it fails, what it said."""
    before, since = children(), time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}")
    return time.monotonic() - since, children() - before
