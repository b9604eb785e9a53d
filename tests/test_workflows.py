"""What a code host runs: the workflows, and the scripts that they call."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from helpers.clones import ROOT, Project, clone

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HEADING = "## Results"


def jobs() -> list[dict[str, Any]]:
    return [job for file in WORKFLOWS for job in YAML(typ="safe").load(file)["jobs"].values()]


def steps() -> list[dict[str, Any]]:
    return [step for job in jobs() for step in job["steps"]]


@pytest.mark.parametrize("command", ["actionlint", "check-jsonschema --builtin-schema vendor.github-workflows"])
def test_the_workflows_are_valid(command: str) -> None:
    Project(ROOT).run(*command.split(), *map(str, WORKFLOWS))


def test_every_job_has_a_time_limit() -> None:
    assert jobs()
    assert [job for job in jobs() if "timeout-minutes" not in job] == []


def test_the_workflows_use_the_code_hosts_own_actions_only() -> None:
    assert {step["uses"].split("/")[0] for step in steps() if "uses" in step} == {"actions"}


def test_no_token_lies_in_a_checkout() -> None:
    checkouts = [step for step in steps() if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_supported_python_is_tested() -> None:
    tested = next(job["strategy"]["matrix"]["python"] for job in jobs() if "strategy" in job)
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert supported
    assert tested == [f"3.{minor}" for minor in range(*map(int, supported.groups()))]


def test_what_they_make_can_be_made() -> None:
    """Also what the container of an editor makes."""
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"]
    commands = "\n".join([container, *(step.get("run", "") for step in steps())])
    targets = set(re.findall(r"make (?:--silent )?(\S+)", commands))
    assert {"test", "test-browser", "lint", "changes", "new-images", "audit", "install"} <= targets
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_a_comment_is_written_once_and_then_updated(tmp_path: Path) -> None:
    """The step runs against a stand-in for GitHub's `gh`, which notes how it is called."""
    (step,) = (step for step in steps() if "Write the comment" in step.get("name", ""))
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\ncase "$*" in *--paginate*) printf "%s" "$FOUND" ;; *) echo "$@" >> calls ;; esac\n')
    gh.chmod(0o755)
    report = f'{HEADING}\n\n`$(touch broken)` "quoted"'
    for comment_id in ("", "17"):
        environment = {"GITHUB_REPOSITORY": "a/b", "PULL_REQUEST": "3", "REPORT": report, "FOUND": comment_id}
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env={"PATH": path, **environment}, check=True)
    assert (tmp_path / "calls").read_text() == (
        f"api --silent --method POST repos/a/b/issues/3/comments --raw-field body={report}\n"
        f"api --silent --method PATCH repos/a/b/issues/comments/17 --raw-field body={report}\n"
    )
    assert not (tmp_path / "broken").exists()
    assert f'startswith("{HEADING}")' in step["run"]  # by which the next push knows it


def test_without_a_remote_the_report_compares_what_git_holds(tmp_path: Path) -> None:
    project = clone(tmp_path)
    project.edit(lambda tree: tree["train"].update(batch_size=8))
    report = project.run(str(ROOT / "scripts/changes"), "HEAD")
    assert report.startswith(f"{HEADING}\n")
    assert "There is no DVC remote, so nothing was reproduced" in report
    assert re.search(r"params.yaml +\| train.batch_size +\| 16 +\| 8 ", report)
    assert "dropout" not in report


@pytest.fixture
def pushed(project: Project) -> Project:
    """The finished clone as a colleague finds it: results in git, outputs in a DVC remote beside it."""
    project.run("dvc", "remote", "add", "-d", "shared", str(project.root.parent / "remote"))
    commit(project)
    project.run("dvc", "push")
    return project


def commit(project: Project) -> None:
    project.run("git", "add", "params.yaml", "dvc.lock", "reports", ".dvc/config")
    project.run("git", "commit", "-q", "-m", "results")


def checkout(project: Project, name: str) -> Project:
    """A fresh clone by git, which has no outputs."""
    copy = project.root.parent / name
    project.run("git", "clone", "-q", ".", str(copy))
    return Project(copy)


@pytest.mark.slow
def test_a_pull_request_is_reproduced_from_the_remote(pushed: Project) -> None:
    results = str(ROOT / "scripts/changes")

    report = checkout(pushed, "unchanged").run(results, "HEAD")
    assert "Reproduced: all is as `dvc.lock` says." in report
    assert "Stages that ran here" not in report
    assert "Accuracy on validation, best first" in report

    learning = {"name": "adam", "learning_rate": 0.003}  # enough to remember some training images
    pushed.edit(lambda tree: tree["variants"]["tutorial"].update(epochs=8, optimizer=learning))
    commit(pushed)
    report = checkout(pushed, "changed").run(results, "HEAD^")
    assert "`dvc.lock` is out of date" in report
    assert "Stages that ran here: `train@tutorial-31415` `evaluate@tutorial-31415` `compare`\n" in report
    assert re.search(r"\| reports/metrics.json +\| tutorial\.gap ", report)
    assert "| exercise." not in report
    assert re.search(r"variants.tutorial.epochs +\| 2 +\| 8 ", report)

    shutil.move(pushed.root.parent / "remote", pushed.root.parent / "elsewhere")
    report = checkout(pushed, "unreachable").run(results, "HEAD^")
    assert "The DVC remote gave no images" in report
    assert re.search(r"variants.tutorial.epochs +\| 2 +\| 8 ", report)


@pytest.mark.slow
def test_a_pull_request_whose_pipeline_fails_is_reported_and_fails(pushed: Project) -> None:
    pushed.edit(lambda tree: tree["variants"]["tutorial"].update(epochs=-1))
    commit(pushed)
    report = checkout(pushed, "failing").run(str(ROOT / "scripts/changes"), "HEAD^", code=1)
    assert "`dvc repro` failed" in report
    assert re.search(r"variants.tutorial.epochs +\| 2 +\| -1 ", report)


@pytest.mark.slow
def test_new_images_are_trained_on_and_pushed(pushed: Project) -> None:
    new_images = str(ROOT / "scripts/new-images")

    same = checkout(pushed, "same")
    assert "The images have not changed." in same.run(new_images)
    assert same.run("git", "status", "--short") == ""

    pushed.edit(lambda tree: tree["data"]["rendered"].update(seed=1))  # as if another version were fetched
    pushed.edit(lambda tree: tree["train"].update(variants=["tutorial"]))
    commit(pushed)
    new = checkout(pushed, "new")
    report = new.run(new_images)
    assert "Stages that ran here: `prepare` `train@tutorial-31415`" in report
    commit(new)
    colleague = checkout(new, "colleague")
    colleague.run("dvc", "pull")
    assert colleague.stale() == set()
