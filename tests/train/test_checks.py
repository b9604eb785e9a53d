"""A training refuses other library versions and other weights files, before TensorFlow starts."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from car_or_truck.errors import Failure
from car_or_truck.files import sha256
from car_or_truck.train.checks import check_versions, check_weights, pinned_versions
from car_or_truck.train.recipe import Base
from helpers.clones import ROOT, Project


def test_the_pinned_versions_are_those_of_the_lock_file() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    pinned = pinned_versions()
    assert set(pinned) == {"keras", "numpy", "tensorflow"}
    assert {name: locked[name] for name in pinned} == pinned


def test_each_library_is_locked_in_one_version_for_every_python() -> None:
    text = (ROOT / "requirements.lock").read_text()
    for name in pinned_versions():
        assert len(re.findall(rf"^{name}==", text, re.MULTILINE)) == 1


def test_comments_and_blank_lines_are_no_versions(tmp_path: Path) -> None:
    (tmp_path / "versions.txt").write_text("# about\n\nkeras==1.2  # why\nnumpy==3\n")
    assert pinned_versions(tmp_path / "versions.txt") == {"keras": "1.2", "numpy": "3"}


def test_only_exactly_the_pinned_versions_are_accepted() -> None:
    installed = {"numpy": version("numpy"), "keras": version("keras")}
    check_versions(installed)
    with pytest.raises(Failure, match=rf"numpy 0.1 is pinned in versions.txt, but {installed['numpy']} is installed"):
        check_versions(installed | {"numpy": "0.1"})
    with pytest.raises(Failure, match=r"no-such-library 1.0 is pinned in versions.txt, but no version is installed"):
        check_versions({"no-such-library": "1.0"})


def base(**changes: Any) -> Base:
    return Base.model_validate({"application": "VGG16", **changes})


def test_a_weights_file_has_to_be_the_one_that_was_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.weights.h5"
    path.write_bytes(b"weights")
    chosen = base(weights=str(path), sha256=sha256(path))
    check_weights(chosen)
    check_weights(base(weights=str(path), sha256=sha256(path).upper()))
    path.write_bytes(b"others")
    with pytest.raises(Failure, match=rf"base.sha256 is {chosen.sha256}, but .*mine.weights.h5 has {sha256(path)}"):
        check_weights(chosen)
    path.unlink()
    with pytest.raises(Failure, match=r"base.weights is '.*mine.weights.h5', which cannot be read \(No such file"):
        check_weights(chosen)
    with pytest.raises(Failure, match=r"which cannot be read \(Is a directory\)"):
        check_weights(base(weights=str(tmp_path), sha256="0" * 64))


def test_a_weights_file_without_its_checksum_is_never_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.weights.h5"
    path.write_bytes(b"weights")
    unchecked = Base.model_construct(application="VGG16", weights=str(path), sha256=None, trainable=False)
    with pytest.raises(Failure, match=r"base\.sha256 is None"):
        check_weights(unchecked)


@pytest.mark.parametrize("chosen", [None, base(), base(weights=None)])
def test_without_a_weights_file_there_is_nothing_to_check(chosen: Base | None) -> None:
    check_weights(chosen)


SCRIPT = """
import sys
from car_or_truck import params, pipeline
from car_or_truck.errors import Failure
try:
    pipeline.train(params.load(), "exercise", 31415)
except Failure as failure:
    print(failure)
print([name for name in ("tensorflow", "keras", "mlflow") if name in sys.modules])
"""


def test_what_cannot_be_trained_is_refused_before_tensorflow_starts(project: Project) -> None:
    def trained(*command: str) -> str:
        """With the project's own copy of the code."""
        return project.run(*command, code=None, PYTHONPATH=str(project.root / "src"))

    before = (project.root / "models/exercise/31415/history.csv").read_bytes()
    path = project.root / "mine.weights.h5"
    path.write_bytes(b"weights")
    mine = {"application": "VGG16", "weights": "mine.weights.h5", "sha256": "0" * 64}
    project.edit(lambda tree: tree["variants"]["exercise"].update(base=mine))
    output = trained(sys.executable, "-c", SCRIPT)
    assert output.startswith(f"base.sha256 is {'0' * 64}, but mine.weights.h5 has {sha256(path)}. ")
    assert output.endswith("\n[]\n")

    versions = project.root / "src/car_or_truck/train/versions.txt"
    versions.write_text(re.sub("numpy==.*", "numpy==0.1", versions.read_text()))
    output = trained(sys.executable, "-c", SCRIPT)
    assert output.startswith("numpy 0.1 is pinned in versions.txt, but ")
    assert output.endswith("\n[]\n")

    output = trained("car-or-truck", "train", "exercise", "31415")
    assert output.startswith("numpy 0.1 is pinned in versions.txt, but ")
    assert len(output.splitlines()) == 1
    assert (project.root / "models/exercise/31415/history.csv").read_bytes() == before
