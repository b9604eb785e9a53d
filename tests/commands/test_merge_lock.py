"""dvc.lock merged by git with the driver that `make` registers, and what DVC makes of the result."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from car_or_truck.commands.merge_lock import merge_lock
from car_or_truck.errors import Failure
from helpers.clones import ROOT, Project

REGISTRATION = (ROOT / "scripts/install").read_text().split("\n\n")[-1]  # all but the installation, which takes minutes
PIPELINE = """
stages:
  prepare:
    cmd: echo ${size} > prepared
    params: [size]
    outs: [prepared]
  train:
    matrix:
      variant: ${variants}
    cmd: grep "^  ${item.variant}:" params.yaml > ${item.variant}.model
    params: ["rates.${item.variant}"]
    deps: [prepared]
    outs: ["${item.variant}.model"]
  evaluate:
    matrix:
      variant: ${variants}
    cmd: cp ${item.variant}.model ${item.variant}.scores
    deps: ["${item.variant}.model"]
    outs: ["${item.variant}.scores"]
  compare:
    cmd: cat *.scores > table && cp table reports/metrics.json
    deps: [a.scores, b.scores]
    outs: [table]
    metrics:
      - reports/metrics.json: {cache: false}
"""
PARAMS = "size: 1\n\n# one a line, so that git merges them\nvariants: [a, b]\n\nrates:\n  a: 1\n\n\n\n  b: 1\n"


def stage(cmd: str = "run", md5: str = "0", deps: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    """An entry of a lock file, with one out whose hash is `md5`."""
    entry: dict[str, Any] = {"cmd": cmd}
    if deps:
        entry["deps"] = [{"path": path, "hash": "md5", "md5": value, "size": 1} for path, value in deps.items()]
    if params:
        entry["params"] = {"params.yaml": params}
    return entry | {"outs": [{"path": f"{cmd}.out", "hash": "md5", "md5": md5, "size": 1}]}


def inputs(first: str, second: str) -> dict[str, Any]:
    return stage(deps={"first": first, "second": second})


def write(path: Path, stages: dict[str, Any]) -> Path:
    """A lock file as DVC writes it."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump({"schema": "2.0", "stages": copy.deepcopy(stages)}, path)  # else equal parts become anchors
    return path


def merged(folder: Path, base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    paths = [write(folder / name, side) for name, side in (("base", base), ("ours", ours), ("theirs", theirs))]
    merge_lock(*paths)
    lock = YAML(typ="safe").load(paths[1])
    assert lock["schema"] == "2.0"
    return dict(lock["stages"])


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        (stage(x=1), stage(x=2), stage(x=1), "ours"),
        (stage(x=1), None, stage(x=1), None),
        (stage(x=1), stage(x=1), None, None),
        (None, None, stage(x=1), "theirs"),
        (stage(x=1), None, stage(x=2), "left out"),
        (stage(x=1, y=1), stage(x=2, y=1), stage(x=2, y=2), "theirs"),
        (stage(x=1, y=1), stage(x=2, y=1), stage(x=1, y=2), "left out"),
        (stage(x=1), stage(x=2), stage(x=3), "left out"),
        (None, stage(x=2, y=1), stage(x=2), "ours"),
        (stage(v={"x": 1, "y": 1}), stage(v={"x": 2, "y": 1}), stage(v={"x": 2, "y": 2}), "theirs"),
        (stage(v={"x": 1, "y": 1}), stage(v={"x": 2}), stage(v={"x": 1}), "ours"),
        (stage(v=[1]), stage(v=[1, 2]), stage(v=[1, 3]), "left out"),
        (stage(x=None), stage(x=1, y=None), stage(y=None), "left out"),
        (stage(md5="0"), stage(md5="1"), stage(md5="2"), "ours"),  # the same inputs, on two machines
        (inputs("0", "0"), inputs("1", "0"), inputs("1", "1"), "theirs"),
        (inputs("0", "0"), inputs("1", "0"), inputs("0", "1"), "left out"),
        (stage("run"), stage("run --fast"), stage("run --slow"), "left out"),
    ],
)
def test_a_stage_is_the_sides_that_ran_it_with_the_merged_inputs(
    base: Any, ours: Any, theirs: Any, expected: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locks = [{"other": stage(), **({"it": side} if side else {})} for side in (base, ours, theirs)]
    result = merged(tmp_path, locks[0], locks[1], locks[2])
    assert result.pop("other") == stage()
    assert result.get("it") == {"ours": ours, "theirs": theirs}.get(str(expected))
    left_out = "dvc.lock: it was changed on both sides; `dvc repro` runs it again.\n"
    assert capsys.readouterr().err == (left_out if expected == "left out" else "")


@pytest.mark.parametrize("order", [1, -1])
def test_a_dep_that_is_an_out_is_compared_with_the_out_that_was_kept(order: int, tmp_path: Path) -> None:
    """Both trained it again: ours with another result of the same inputs, theirs with one more change."""

    def lock(rate: int, model: str, code: str) -> dict[str, Any]:
        train, evaluate = stage("train", model, rate=rate), stage("evaluate", model, {"train.out": model, "code": code})
        return dict([("train", train), ("evaluate", evaluate)][::order])

    ours, theirs = lock(2, "m2", "c"), lock(2, "m2 elsewhere", "c")
    assert merged(tmp_path, lock(1, "m1", "c"), ours, theirs) == ours
    ours, theirs = lock(2, "m2", "c"), lock(2, "m2 elsewhere", "c2")
    assert merged(tmp_path, lock(1, "m1", "c"), ours, theirs) == {"train": ours["train"]}
    ours, theirs = lock(2, "m2", "c"), lock(3, "m3", "c")
    assert merged(tmp_path, lock(1, "m1", "c"), ours, theirs) == {}


def test_stages_that_depend_on_each_other_only_when_merged_end(tmp_path: Path) -> None:
    base = {"a": stage("a", x=1), "b": stage("b", x=1)}
    ours = {"a": stage("a", x=2, deps={"b.out": "0"}), "b": stage("b", x=2)}
    theirs = {"a": stage("a", x=3), "b": stage("b", x=3, deps={"a.out": "0"})}
    assert merged(tmp_path, base, ours, theirs) == {}


STAGES = st.dictionaries(
    st.sampled_from(["fetch", "train@a-1", "train@b-1", "compare"]),
    st.builds(
        lambda md5, dep, params: stage("x", md5, {"d": dep} if dep else None, **params),
        st.sampled_from("012"),
        st.sampled_from(["", "0", "1"]),
        st.dictionaries(st.sampled_from("xy"), st.sampled_from([0.001, 2, "word", None, [1, 2], {"k": 1}]), max_size=2),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(STAGES, STAGES, STAGES)
def test_a_merge_is_symmetric_where_nothing_conflicts(tmp_path: Path, base: Any, ours: Any, theirs: Any) -> None:
    one_way, other_way = merged(tmp_path, base, ours, theirs), merged(tmp_path, base, theirs, ours)
    for name in {*base, *ours, *theirs}:
        before, left, right = base.get(name), ours.get(name), theirs.get(name)
        if left == right or before in (left, right):
            expected = right if left == before else left
            assert one_way.get(name) == other_way.get(name) == expected
        else:
            assert one_way.get(name) in (None, left, right)
            assert (name in one_way) == (name in other_way)
    ours_text = write(tmp_path / "self", ours).read_bytes()
    merge_lock(tmp_path / "base", tmp_path / "self", write(tmp_path / "same", ours))
    assert (tmp_path / "self").read_bytes() == ours_text


@pytest.mark.parametrize("broken", ["<<<<<<< ours\na: 1\n", "a: 1\n", "[]\n", "schema: '1.0'\nstages: {}\n", None])
@pytest.mark.parametrize("side", ["base", "ours", "theirs"])
def test_a_file_that_is_no_lock_file_is_named_and_nothing_is_written(
    side: str, broken: str | None, tmp_path: Path
) -> None:
    paths = {name: write(tmp_path / name, {"a": stage()}) for name in ("base", "ours", "theirs")}
    if broken is None:
        paths[side].unlink()
    else:
        paths[side].write_text(broken)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Failure, match=rf"{side.upper()} \(.*/{side}\) is not a lock file of DVC") as caught:
        merge_lock(*paths.values())
    assert len(str(caught.value).splitlines()) == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def commit(project: Project, message: str) -> None:
    project.run("git", "add", ".")
    project.run("git", "commit", "-q", "-m", message)


@pytest.fixture
def repository(tmp_path: Path) -> Project:
    """A git repository on the branch main with the driver, which has been registered twice."""
    project = Project(tmp_path / "repository")
    project.root.mkdir()
    project.run("git", "init", "-q", "-b", "main")
    for _ in range(2):
        project.run("sh", "-euc", REGISTRATION)
    assert len(project.run("git", "config", "--get-all", "merge.dvc-lock.driver").splitlines()) == 1
    (project.root / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    return project


def test_the_driver_is_not_registered_outside_of_git(tmp_path: Path) -> None:
    assert Project(tmp_path).run("sh", "-euc", REGISTRATION, GIT_CEILING_DIRECTORIES=str(tmp_path.parent)) == ""
    assert list(tmp_path.iterdir()) == []


def test_git_reports_a_conflict_when_a_side_is_no_lock_file(repository: Project) -> None:
    lock = repository.root / "dvc.lock"
    for branch, stages in (("main", {"a": stage(x=1)}), ("theirs", {"a": stage(x=2)})):
        repository.run("git", "checkout", "-q", "-B", branch)
        write(lock, stages)
        commit(repository, branch)
    repository.run("git", "checkout", "-q", "main")
    lock.write_text("not: one\n")
    commit(repository, "ours")
    output = repository.run("git", "merge", "theirs", code=1)
    assert "is not a lock file of DVC" in output
    assert "CONFLICT (content): Merge conflict in dvc.lock" in output
    assert lock.read_text() == "not: one\n"


@pytest.mark.slow
def test_after_a_merge_dvc_runs_only_what_neither_branch_has_run(repository: Project) -> None:
    root = repository.root
    repository.run("dvc", "init", "-q")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text(PARAMS)
    (root / "reports").mkdir()
    (root / ".gitignore").write_text("/prepared\n/*.model\n/*.scores\n/table\n")
    repository.run("dvc", "repro", "-q")
    commit(repository, "base")
    for branch, name in (("theirs", "b"), ("main", "a")):
        repository.run("git", "checkout", "-q", "-B", branch, "main")
        (root / "params.yaml").write_text(PARAMS.replace(f"  {name}: 1", f"  {name}: 2"))
        repository.run("dvc", "repro", "-q")
        commit(repository, branch)
    output = repository.run("git", "merge", "-q", "--no-edit", "theirs")
    line = "dvc.lock: compare was changed on both sides; `dvc repro` runs it again."
    assert [text for text in output.splitlines() if text.startswith("dvc.lock:")] == [line]
    repository.run("dvc", "checkout", "-q", "--allow-missing")
    assert repository.stale() == {"compare"}
    assert [(root / f"{name}.scores").read_text() for name in "ab"] == ["  a: 2\n", "  b: 2\n"]
    output = repository.run("dvc", "repro")
    assert output.count("Running stage") == output.count("Running stage 'compare'") == 1
    for name in ("table", "reports/metrics.json"):
        assert (root / name).read_text() == "  a: 2\n  b: 2\n"
