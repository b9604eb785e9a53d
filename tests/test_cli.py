from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from car_or_truck import cli, params
from car_or_truck.cli import app
from car_or_truck.cli.app import console
from car_or_truck.commands import predict
from helpers.clones import ROOT, Project

COMMAND = typer.main.get_group(app)
VERBS = sorted(COMMAND.commands)


def test_the_stages_and_what_a_person_runs_are_verbs() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert {stage["cmd"].split()[1] for stage in stages.values()} == set(stages) < set(VERBS)
    people = {"leaderboard", "ui", "promote", "rollback", "predict", "reproduce", "sync", "clean", "tune"}
    assert set(VERBS) - set(stages) >= people | {"record", "merge-lock"}
    assert not [verb for verb in VERBS if COMMAND.commands[verb].hidden]


def test_the_help_groups_the_verbs_and_cuts_nothing_off(tmp_path: Path) -> None:
    output = Project(tmp_path).run("car-or-truck", "--help", COLUMNS="80")
    for panel in ("Look", "Search", "Registry", "Stages (dvc repro runs these)", "Team"):
        assert f"─ {panel} ─" in output
    assert "─ Commands ─" not in output
    assert "--install-completion" in output
    for verb in VERBS:
        assert re.search(rf"^│ {verb} +[A-Z][^│]*\. +│$", output, re.MULTILINE), verb  # on one line


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command, in this process: returns what it prints, and checks the exit code."""

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("PATH", os.environ["PATH"])  # which the command changes
        monkeypatch.setattr(sys, "argv", ["car-or-truck", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == code
        return "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, ask: Callable[..., str]) -> None:
    output = ask(verb, "--help")
    assert re.search(rf"Example: .*car-or-truck {verb}\b", output)


def test_a_name_that_the_terminal_cannot_show_stops_nothing() -> None:
    script = "from car_or_truck import cli; cli.app = lambda: print('caf\u00e9'); cli.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout == "caf\\xe9\n"


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    script = "import sys; from car_or_truck import cli; print([m for m in sys.modules if m in sys.argv[1].split()])"
    heavy = "tensorflow keras mlflow matplotlib pandas sklearn scipy numpy pydantic ruamel"
    result = subprocess.run([sys.executable, "-c", script, heavy], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "tutorial"], 2, "Missing argument 'SEED'"),
        (["train", "tutorial", "x"], 2, "should be a valid integer"),
        (["fly"], 2, "No such command 'fly'"),
        (["train", "nope", "1"], 1, "params.yaml defines no variant 'nope'; it defines tutorial,"),
        (["train", "tutorial", "1"], 1, "dataset.json cannot be read"),
        (["tune", "nope", "--over", "epochs=1:2"], 1, "params.yaml defines no variant 'nope'; it defines tutorial,"),
        (["tune", "tutorial"], 2, "Missing option '--over'"),
        (["predict"], 2, "Missing argument 'IMAGE'"),
        (["predict", "x.png"], 1, "There is no MLflow store"),
        (["predict", "x.png", "--json", "--csv"], 2, "give one of --json and --csv"),
        (["repro", "-j", "2", "--ray", "local"], 2, "goes without --ray"),
        (["repro", "-j", "2", "--checkpoint-every", "9"], 2, "--checkpoint-every: needs --ray"),
        (["predict", "x.png", "--explain", "why"], 2, "why does not end in .png"),
        (["predict", "x.png", "--coverage", "1"], 2, "1 is not between 0 and 1"),
        (["leaderboard"], 1, "There is no reports/comparison.csv here ("),
    ],
)
def test_a_failure_is_explained_in_a_line_or_two(
    arguments: list[str], code: int, says: str, ask: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    output = ask(*arguments, code=code)
    assert says in output
    assert "Traceback" not in output
    if code == 1:
        assert len(output.splitlines()) <= 2
        assert "Traceback" in ask("--debug", *arguments, code=1)


@pytest.mark.parametrize(("failures", "code"), [(0, 0), (2, 1)])
def test_predict_fails_where_a_picture_could_not_be_read(
    failures: int, code: int, ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "predict", lambda *_: failures)
    ask("predict", "x.png", code=code)


def test_an_unexpected_error_is_one_line_without_passwords(
    ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no http://me:secret@host/api")

    monkeypatch.setattr(params, "load", fail)
    assert ask("fetch", code=1) == (
        "Unexpected RuntimeError: no http://***@host/api (`car-or-truck --debug ...` shows the traceback.)\n"
    )
    monkeypatch.setenv("CAR_OR_TRUCK_DEBUG", "1")
    assert "Traceback" in ask("fetch", code=1)


def test_a_folder_that_nobody_may_write_to_is_named(ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EROFS, "Read-only file system", "x.lock")

    monkeypatch.setattr(params, "load", fail)
    assert ask("fetch", code=1) == "Cannot use x.lock: Read-only file system.\n"


def test_dvc_is_that_of_this_environment_even_where_it_is_not_activated(
    ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    ask("--help")
    assert Path(shutil.which("dvc") or "").parent == Path(sys.executable).parent


def test_a_name_or_a_reason_may_look_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("better on [/data/new] :car:")
    assert capsys.readouterr().out == "better on [/data/new] :car:\n"


def test_the_installer_says_plainly_when_no_python_fits(tmp_path: Path) -> None:
    output = Project(tmp_path).run("sh", str(ROOT / "scripts/install"), code=1, PYTHON="/bin/false no-such-python")
    assert "needs Python 3.11, 3.12 or 3.13 with its venv module" in output
    assert not list(tmp_path.iterdir())
