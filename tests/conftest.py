"""One small pipeline, run for real, that many tests look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clones import Project, clone


@pytest.fixture(autouse=True)
def no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "CAR_OR_TRUCK_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose pipeline has run to its end. Tests that change it use `project`."""
    project = clone(tmp_path_factory.mktemp("finished") / "project")
    (project.root / "console.txt").write_text(project.run("dvc", "repro"))
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished clone, to change."""
    shutil.copytree(finished.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
