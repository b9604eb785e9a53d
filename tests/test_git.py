"""The patch of what is not committed: with it, a run's code and parameters come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from car_or_truck.git import changes
from helpers.clones import git

FILES = {
    "params.yaml": b"epochs: 1\r\nname: gro\xdf\r\n",  # as Windows ends lines, and as Latin-1 writes
    "src/code.py": b"x = 1\n",
    "dvc.lock": b"a result\n",
}
CHANGED = {"params.yaml": b"epochs: 2\r\nname: gr\xf6\xdfer\r\n", "src/new.py": b"y = 2\n"}


def write(root: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize(
    "configuration",
    ["core.autocrlf=false", "color.ui=always", "diff.noprefix=true", "diff.external=true", "diff.context=0"],
)
def test_the_patch_brings_back_every_byte_whatever_git_is_told(
    configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "project", FILES)
    monkeypatch.chdir(tmp_path / "project")
    git(Path(), "init", "-q")
    git(Path(), "config", *configuration.split("="))
    git(Path(), "add", ".")
    git(Path(), "commit", "-q", "-m", "start")
    assert changes("HEAD") == b""
    write(Path(), {**CHANGED, "dvc.lock": b"another result\n", "elsewhere.txt": b"of no run"})
    (tmp_path / "changes.patch").write_bytes(changes("HEAD"))
    git(tmp_path, "clone", "-q", "project", "clone")
    git(tmp_path / "clone", "apply", "../changes.patch")
    contents = {name: (tmp_path / "clone" / name).read_bytes() for name in {**FILES, **CHANGED}}
    assert contents == {**FILES, **CHANGED}
    assert not (tmp_path / "clone/elsewhere.txt").exists()


def test_without_git_there_is_no_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert changes("HEAD") == b""
