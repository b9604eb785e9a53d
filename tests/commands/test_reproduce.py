"""`reproduce`: a version traced back to where it came from, and trained again."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from typing import Any

import mlflow
import pandas as pd
import pytest

from car_or_truck.commands import reproduce
from car_or_truck.errors import Failure
from car_or_truck.tracking import store
from helpers.clones import Project
from helpers.registered import console, rewrite_trace, version
from helpers.stores import SYNTHETIC as NAME


@pytest.mark.usefixtures("standing_in_finished")
def test_a_version_is_traced_from_itself_alone(finished: Project, capsys: pytest.CaptureFixture[str]) -> None:
    number = version(store.open_store(), "exercise").number
    reproduce.reproduce(f"models:/{NAME}/{number}", console())
    output = capsys.readouterr().out
    assert output.startswith(f"{NAME} version {number} (exercise-31415) can be reproduced here: commit, data, ")
    dataset = json.loads((finished.root / "data/prepared/dataset.json").read_text())
    lock = (finished.root / "dvc.lock").read_text()
    for part in (
        f"commit       {finished.run('git', 'rev-parse', 'HEAD').strip()} (available)",
        "head: units 6, dropout 0.2",
        f"data         rendered, digest {dataset['digest'][:12]} (in data/prepared)",
        "of train@exercise-31415 (in the cache)",
        "package      tensorflow==",
    ):
        assert part in output, part
    for line in output.splitlines():
        if line.startswith("DVC output   "):
            assert f"md5: {line.split()[3]}" in lock
    assert "not in the cache" not in output
    assert "uncommitted changes" not in output


def test_what_is_not_here_is_said_first(
    client: mlflow.MlflowClient, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    number = version(client, "exercise").number
    shutil.rmtree(project.root / "data")
    shutil.rmtree(project.root / ".dvc/cache")
    reproduce.reproduce(str(number), console())
    conclusion = capsys.readouterr().out.splitlines()[0]
    assert "can be trained again here, but not all is as it was: its data are not here; no data/raw; " in conclusion
    shutil.rmtree(project.root / ".git")
    reproduce.reproduce(str(number), console())
    assert "cannot be reproduced here: its commit is not in this" in capsys.readouterr().out.splitlines()[0]


def test_other_libraries_than_the_versions_are_named_before_anything_is_trained(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"keras": "3.0.0"}
    monkeypatch.setattr(reproduce, "_installed", lambda name: other.get(name) or metadata.version(name))
    number = str(version(client, "exercise").number)
    with pytest.raises(Failure, match=r"needs keras==.*\. Install the requirements\.lock of [0-9a-f]{12} into "):
        reproduce.reproduce(number, console(), run=True)
    conclusion = capsys.readouterr().out.splitlines()[0]
    assert f"cannot be reproduced here: keras=={metadata.version('keras')}, here: 3.0.0" in conclusion


def test_a_version_whose_run_lost_its_trace_is_said_not_to_be_traceable(client: mlflow.MlflowClient) -> None:
    lost = version(client, "exercise")
    rewrite_trace(client, lost.run_id, "cell.json", "{}")
    with pytest.raises(Failure, match=f"^version {lost.number} .* cannot be traced back, as its run is not whole"):
        reproduce.reproduce(str(lost.number), console())


def table(*probability: float) -> pd.DataFrame:
    return pd.DataFrame({"name": ["a", "b"], "label": [0, 1], "probability": probability})


def test_the_verdict_tells_identical_from_near_and_from_different() -> None:
    before = table(0.25, 0.75)
    same = "REPRODUCED: all 2 predictions are the same to the last bit; "
    assert reproduce.verdict(before, before, True, 0.01) == f"{same}the model is the same to the byte."
    assert reproduce.verdict(before, before, False, 0.01) == f"{same}the bytes of the model differ."
    near = reproduce.verdict(before, table(0.25, 0.751), False, 0.01)
    assert near == (
        "REPRODUCED within the tolerance of 0.01: predictions differ by up to 0.001, and 0 of 2 labels changed."
    )
    for after, says in (
        (table(0.25, 0.45), "NOT REPRODUCED: predictions differ by up to 0.3, and 1 of 2 labels changed"),
        (table(0.25, float("nan")), "NOT REPRODUCED"),
        (table(0.25, 0.75).assign(name=["a", "c"]), "NOT REPRODUCED: the validation images are not the same"),
        (table(0.25, 0.75).assign(label=[0, 0]), "NOT REPRODUCED: the validation images are not the same"),
    ):
        with pytest.raises(Failure, match=says):
            reproduce.verdict(before, after, False, 0.01)


@pytest.mark.slow
def test_a_version_is_made_again_to_the_byte_also_from_changes_that_were_not_committed(project: Project) -> None:
    def more_dropout(tree: Any) -> None:
        tree["variants"]["exercise"]["head"]["dropout"] = 0.4

    project.edit(more_dropout)
    source = project.root / "src/car_or_truck/train/convnet.py"
    source.write_text(source.read_text() + "\n# not committed\n")
    project.run("dvc", "repro", "--force", "--single-item", "train@exercise-31415")
    project.run("dvc", "repro", "--force", "--single-item", "evaluate@exercise-31415")
    project.run("git", "checkout", "-q", "params.yaml", "src")
    project.run("dvc", "remote", "add", "--default", "shared", "../storage")
    project.run("git", "commit", "-q", "-m", "A remote", ".dvc/config")
    project.run("dvc", "push")
    shutil.rmtree(project.root / ".dvc/cache")
    before, database = project.run("git", "status", "--porcelain"), (project.root / "mlflow.db").read_bytes()
    output = project.run("car-or-truck", "reproduce", "3", "--run")
    assert "with uncommitted changes, which its run keeps as trace/changes.patch" in output
    assert "REPRODUCED: all 40 predictions are the same to the last bit; the model is the same to the byte." in output
    assert project.run("git", "status", "--porcelain") == before
    assert (project.root / "mlflow.db").read_bytes() == database  # its runs go to a store of the clone
