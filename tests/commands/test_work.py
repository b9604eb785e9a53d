"""Models trained in one clone for another, by way of DVC's remote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from car_or_truck import params
from car_or_truck.commands import work
from car_or_truck.errors import Failure
from helpers.clones import ROOT, Project, clone, digests, interruptible
from helpers.processes import await_epochs, longer, start

CELL = "tutorial-31415"


class Team:
    """A git remote and a DVC remote, and clones that share nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = clone(folder / "first")
        self.first.edit(longer)
        self.first.edit(lambda tree: tree["train"].update(variants=["tutorial"], threads=1))
        self.first.set_constants("cells/remote.py", HEARTBEAT=2, SILENCE=12)
        self.first.run("dvc", "remote", "add", "-d", "storage", str(folder / "storage"))
        self.run("dvc", "repro", "prepare")
        self.run("dvc", "push", "prepare")
        self.run("git", "add", ".")
        self.run("git", "commit", "-q", "-m", "grid")

    def run(self, *command: str) -> str:
        return self.first.run(*command, PYTHONPATH=str(self.first.root / "src"))

    def clone(self, name: str) -> Project:
        self.run("git", "clone", "-q", str(self.first.root), str(self.folder / name))
        return Project(self.folder / name)


def work_in(project: Project, *arguments: str) -> str:
    return project.run("car-or-truck", "work", *arguments, PYTHONPATH=str(project.root / "src"))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(tmp_path_factory.mktemp("team"))


@pytest.mark.slow
def test_a_killed_workers_model_is_finished_elsewhere_to_the_same_bytes(team: Team) -> None:
    killed, second = team.clone("killed"), team.clone("second")
    command = ["setsid", "--wait", "car-or-truck", "work", CELL, "--checkpoint-every", "0"]
    process = start(killed, *command, PYTHONPATH=str(killed.root / "src"))
    await_epochs(process, 4)  # the third one's checkpoint has been sent
    for child in session(process.pid):
        os.kill(child, signal.SIGKILL)
    process.communicate(timeout=60)
    output = work_in(second, CELL)
    assert "working on it; waiting" in output  # until the dead worker counts as dead
    assert "continues after epoch" in output
    assert "came from DVC's remote" in output
    assert not list((team.folder / "storage/car-or-truck/checkpoints").glob("*.npz"))
    team.run("dvc", "fetch", "--run-cache", "prepare")
    assert "is cached" in team.run("dvc", "repro", "--pull", f"evaluate@{CELL}")
    serial = team.clone("serial")
    serial.run("dvc", "pull", "prepare")
    serial.run("dvc", "repro", f"evaluate@{CELL}", PYTHONPATH=str(serial.root / "src"))
    assert digests(team.first.root) == digests(second.root) == digests(serial.root)


@pytest.mark.slow
def test_of_two_workers_at_one_model_one_waits_and_trains_nothing(team: Team) -> None:
    commands = ["car-or-truck", "work", CELL]
    clones = [team.clone(name) for name in ("left", "right")]
    for project in clones:  # a commit that the remote holds no model of, and whose training outlasts a silence
        project.edit(lambda tree: longer(tree, 200))
        project.run("git", "commit", "-qam", "x", code=0, **SAME_DATE)
    process = start(clones[0], *commands, PYTHONPATH=str(clones[0].root / "src"))
    await_epochs(process, 1)
    output = work_in(clones[1], CELL)
    process.communicate(timeout=600)
    assert process.returncode == 0
    assert "working on it; waiting" in output
    assert "  epoch " not in output
    assert digests(clones[0].root) == digests(clones[1].root)


SAME_DATE = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}


def session(leader: int) -> list[int]:
    """The processes of a session that `setsid` made."""
    return [leader, *(child.pid for child in psutil.Process(leader).children(recursive=True))]


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = clone(tmp_path / "project")
    monkeypatch.chdir(project.root)
    return project


def test_an_unknown_model_is_named_with_those_that_there_are(committed: Project) -> None:
    with pytest.raises(Failure, match=r"'tutorial-7' is not one of .*: tutorial-31415, exercise-31415"):
        work.work(params.load(), ["tutorial-7"], 60)


def test_changes_that_are_not_committed_are_named(committed: Project) -> None:
    assert work.committed(params.load()) == committed.run("git", "rev-parse", "HEAD").strip()
    committed.edit(lambda tree: tree["train"].update(batch_size=8))
    with pytest.raises(Failure, match=r"Not committed: params\.yaml\. .*commit and push first"):
        work.work(params.load(), [CELL], 60)


def test_images_that_the_commit_does_not_have_are_refused(committed: Project) -> None:
    def lock(image: int, model: int) -> None:
        outs = f"outs: [{{path: data/prepared, md5: {image}}}]"
        Path("dvc.lock").write_text(f"stages: {{prepare: {{{outs}}}, train@a-1: {{cmd: {model}}}}}")
        os.utime("dvc.lock", (0, 0))  # nobody is writing it

    work.check_images()  # neither has any
    lock(1, 1)
    with pytest.raises(Failure, match=r"^The commit's dvc\.lock is not of the images .*`dvc repro prepare && dvc push"):
        work.check_images()
    committed.run("git", "add", "-f", "dvc.lock")
    committed.run("git", "commit", "-q", "-m", "images")
    lock(1, 2)  # another model is none
    work.check_images()
    lock(2, 2)
    with pytest.raises(Failure, match="is not of the images"):
        work.check_images()


@pytest.mark.slow
def test_a_worker_trains_on_no_images_that_its_commit_would_not_make(team: Team) -> None:
    project = team.clone("stale")
    project.edit(lambda tree: tree["data"].update(image_size=24))  # without `dvc repro prepare`
    project.run("git", "commit", "-qam", "smaller")
    for _ in range(2):  # the second time, too
        output = project.run("car-or-truck", "work", CELL, code=1, PYTHONPATH=str(project.root / "src"))
        assert "The commit's dvc.lock is not of the images that its code and parameters make" in output
    assert not (project.root / "models").exists()


def test_without_a_remote_it_says_how_to_add_one(committed: Project) -> None:
    with pytest.raises(Failure, match=r"DVC has no remote .*`dvc remote add -d NAME URL`"):
        work.work(params.load(), [CELL], 60)


@pytest.mark.parametrize("how", ["Ctrl-C", "kill"])
def test_a_command_that_is_stopped_is_waited_for(how: str, tmp_path: Path) -> None:
    shell = "trap 'sleep 0.5; touch end; exit' INT; touch begun; while :; do sleep 0.05; done"
    script = f"""
import signal
from car_or_truck import cli
from car_or_truck.commands import work
signal.signal(signal.SIGTERM, cli._stop)
work.run_to_the_end(["sh", "-c", {shell!r}])
"""
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, preexec_fn=interruptible, stderr=subprocess.PIPE, text=True
    )
    since = time.monotonic()
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() - since < 60
        time.sleep(0.05)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)  # the terminal sends it to all
    else:
        os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors if how == "Ctrl-C" else "Stopped" in errors
    assert (tmp_path / "end").exists()


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_keeps_its_epochs_and_leaves_its_task(team: Team) -> None:
    project = team.clone("told")
    project.edit(lambda tree: longer(tree, 300))  # a commit that the remote holds no model of
    project.run("git", "commit", "-qam", "x", code=0, **SAME_DATE)
    process = start(project, "car-or-truck", "work", CELL, PYTHONPATH=str(project.root / "src"))
    await_epochs(process, 2)
    children = session(process.pid)[1:]
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped after epoch" in output
    assert "Traceback" not in output
    assert not [child for child in children if psutil.pid_exists(child)]
    assert not list((team.folder / "storage/car-or-truck/workers").glob("*.json"))


STANDINS = {  # for the schedulers' commands, which start each task elsewhere
    "sbatch": """#!/bin/sh
export SLURM_SUBMIT_DIR=$PWD SLURM_ARRAY_JOB_ID=7 "${2#--export=ALL,}"
for task in $(seq "${1#--array=1-}"); do
    SLURM_ARRAY_TASK_ID=$task bash "$3" || exit 1
done
""",
    "make": "#!/bin/sh\nmkdir -p .venv/bin && : > .venv/bin/activate\n",  # setup's installation: the test has it
}


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["slurm", "skypilot"])
def test_the_examples_run_the_grid_by_their_schedulers(scheduler: str, team: Team, tmp_path: Path) -> None:
    project, tools = team.clone(scheduler), tmp_path / "tools"
    seeds = [1, 2] if scheduler == "slurm" else [1]
    project.edit(lambda tree: tree["train"].update(batch_size=20 if scheduler == "slurm" else 10, seeds=seeds))
    project.edit(lambda tree: tree["variants"]["tutorial"].update(epochs=2))
    if scheduler == "slurm":
        project.run("dvc", "remote", "modify", "storage", "url", "../storage")  # seen from the clone that submits
    project.run("git", "commit", "-qam", "grid")
    tools.mkdir()
    for name, text in STANDINS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    environment = {"PATH": path, "TMPDIR": str(tmp_path), "PYTHONPATH": str(project.root / "src")}
    example = ROOT / "examples" / ("slurm.sh" if scheduler == "slurm" else "skypilot.yaml")
    if scheduler == "slurm":
        command = next(line for line in example.read_text().splitlines() if "sbatch --array=1-" in line).strip("# ")
        project.run("sh", "-c", command.replace("examples/slurm.sh", str(example)), code=0, **environment)
    else:
        task = YAML(typ="safe").load(example)
        values = {"REPOSITORY": str(project.root), "COMMIT": project.run("git", "rev-parse", "HEAD").strip()}
        assert {*task["envs"]} == {*values, "MODEL", "MLFLOW_TRACKING_URI"}
        for seed in seeds:
            machine = tmp_path / f"machine{seed}"
            machine.mkdir()
            variables = (
                environment | values | {"MODEL": f"tutorial-{seed}", "PYTHONPATH": str(machine / "car-or-truck/src")}
            )
            for step in ("setup", "run"):
                Project(machine).run("bash", "-c", task[step], code=0, **variables)
    project.run("dvc", "fetch", "--run-cache", "prepare")
    output = project.run("dvc", "repro", "--pull", "evaluate", PYTHONPATH=str(project.root / "src"))
    assert output.count("is cached - skipping run") == 2 * len(seeds)
