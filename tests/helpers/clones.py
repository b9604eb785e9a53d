"""A clone of the project to run as a user would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from car_or_truck.fetch.standin.draw import draw
from car_or_truck.files import sha256
from car_or_truck.tracking import relocation

ROOT = Path(__file__).parents[2]
# What a clone of the project holds, as far as the pipeline needs it.
CLONED = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
    "data/exclude.csv",
    "dvc.yaml",
    "params.yaml",
    "src",
)

# Kaggle's client asks its port on this machine, where test_kaggle.py may be serving: a proxy that is not there keeps
# pipelines from it.
OFFLINE = {"KAGGLE_API_ENVIRONMENT": "TEST", "http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}

# What the environment of whoever runs the tests may hold, and a fresh machine does not
FOREIGN = (
    "MLFLOW_TRACKING_URI",
    "DVC_ROOT",
    "DVC_STAGE",
    "DVC_EXP_NAME",
    "CAR_OR_TRUCK_DEBUG",
    "PYTHONDONTWRITEBYTECODE",  # each process would compile the project's modules
)
# An MLflow server that serves one test: four workers and seven consumers of jobs would each import MLflow.
SPARING = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# Nothing of the person's own: no name, signature or hook of git's, no language, no remote.
IMPERSONAL = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "user.name",
    "GIT_CONFIG_VALUE_1": "t",
    "GIT_CONFIG_KEY_2": "user.email",
    "GIT_CONFIG_VALUE_2": "t@example.org",
    "GIT_OPTIONAL_LOCKS": "0",  # `git status` writes nothing, so that a folder can be copied meanwhile
    "LC_ALL": "C.UTF-8",
    "DVC_GLOBAL_CONFIG_DIR": "/nonexistent",
    "DVC_SYSTEM_CONFIG_DIR": "/nonexistent",
    "DVC_NO_ANALYTICS": "1",
}


def environment(**variables: str) -> dict[str, str]:
    """That of a process which reaches only this machine, and has nothing of the person's but these variables."""
    inherited = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    return {**inherited, **OFFLINE, **variables}


def git(root: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return result.stdout.strip()


class Project:
    """A clone of the project in a folder of its own, and a shell in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, code: int | None = 0, **variables: str) -> str:
        """Run a command as a user would; returns stdout and stderr together, and checks the exit code."""
        result = subprocess.run(
            command,
            cwd=self.root,
            env=environment(**{"COLUMNS": "100", **variables}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert code is None or result.returncode == code, result.stdout
        return result.stdout

    def edit(self, change: Callable[[Any], object]) -> None:
        """Change params.yaml, keeping its comments and its merge keys."""
        yaml, path = YAML(), self.root / "params.yaml"
        tree = yaml.load(path)
        change(tree)
        yaml.dump(tree, path)

    def set_constants(self, module: str, **values: float) -> None:
        """Change constants of the project's own code, for who runs it with PYTHONPATH=src."""
        path = self.root / "src/car_or_truck" / module
        text = path.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"^{name} = \S+", f"{name} = {value}", text, flags=re.MULTILINE)
            assert count == 1, name
        path.write_text(text)

    def stale(self) -> set[str]:
        """The stages that `dvc repro` would run."""
        from dvc.repo import Repo

        with Repo(str(self.root)) as repo:
            return {name.rpartition(":")[2] for name in repo.status()}  # dvc.yaml: seen from where the test stands


def interruptible() -> None:
    """For `preexec_fn`: a job in the background ignores Ctrl-C, and its children would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def clone(into: Path) -> Project:
    """The project in `into`: a git repository whose pipeline is small enough for a test."""
    for name in CLONED:
        source, target = ROOT / name, into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    project = Project(into)

    def smaller(tree: Any) -> None:
        tree["data"] |= {"sources": ["kaggle", "rendered"], "image_size": 32}
        tree["data"]["rendered"] |= {"train": 40, "valid": 40}
        tree["train"] |= {"variants": ["tutorial", "exercise"], "seeds": [31415], "batch_size": 16}
        tree["variants"]["tutorial"]["epochs"] = 2
        tree["variants"]["exercise"]["epochs"] = 3

    project.edit(smaller)
    for command in ("init -q -b main", "add .", "commit -q -m start"):
        project.run("git", *command.split())
    return project


def digests(root: Path, *folders: str) -> dict[str, str]:
    """The digest of each file in these folders; without any, of those that the models' stages wrote."""
    folders = folders or ("models", "reports/cells")
    paths = [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): sha256(path) for path in paths}


def copy(project: Project, into: Path) -> Project:
    """A copy with everything that the project has made, and a store of its own."""
    shutil.copytree(project.root, into, symlinks=True)
    relocation.settle(into / "mlflow.db", independent=True)
    return Project(into)


def photos(root: Path, *empty: str, classes: tuple[str, str] = ("Car", "Truck"), each: int = 1) -> Path:
    """A folder as a user would have it: {train,valid}/CLASS/*.JPEG; `empty` classes are left without."""
    for place, split in enumerate(("train", "valid")):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(each if f"{split}/{name}" not in empty else 0):
                picture = _jpeg(1 + label, split, place * 1000 + number)
                (folder / f"{'a' * (number + 1)}.JPEG").write_bytes(picture)
    return root


@cache
def _jpeg(seed: int, split: str, number: int) -> bytes:
    content = BytesIO()
    draw(seed, split, number).save(content, "jpeg")
    return content.getvalue()
