"""The structure of the code: which room may import which, and what a stage depends on."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from helpers.clones import ROOT

PACKAGE = ROOT / "src" / "car_or_truck"
TESTS = ROOT / "tests"
STAGES = {
    "fetch": "fetch/stage.py",
    "prepare": "prepare/stage.py",
    "train": "train/fit.py",
    "evaluate": "evaluate/stage.py",
    "compare": "compare/stage.py",
}
# They say how a result is named, written and refused, and hand over parameters, which DVC knows by themselves.
NEUTRAL = {"__init__.py", "errors.py", "files.py", "git.py", "lock.py", "params.py", "paths.py"}
# Each room may import those after it, and NEUTRAL.
FLOORS = ["commands", "registry", "tracking", "compare", "evaluate", "cells", "train", "prepare", "fetch"]
ON_TOP = {"__main__.py", "cli", "pipeline.py"}  # they may import any room, and no room imports them
DRAWING = "drawing.py"  # how all rooms draw; it imports none of them
MLFLOW = {"commands", "registry", "tracking"}
MOST_LINES = 250  # of a file, blank ones and docstrings included


def imports(file: Path, package: Path = PACKAGE, types_too: bool = False) -> Iterator[Path]:
    """The project's files that `file` imports when it runs, at its top or inside a function."""
    for node in nodes(file.read_text(encoding="utf-8"), types_too):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            elif (node.module or "").split(".")[0] == "car_or_truck":
                base = package.joinpath(*str(node.module).split(".")[1:])
            else:
                continue
            yield from (
                candidate
                for name in node.names
                for candidate in (base / f"{name.name}.py", base.with_suffix(".py"), base / "__init__.py")
                if candidate.is_file()
            )
        elif isinstance(node, ast.Import):
            for name in node.names:
                first, *rest = name.name.split(".")
                module = package.joinpath(*rest)
                if first == "car_or_truck":
                    yield module.with_suffix(".py") if module.with_suffix(".py").is_file() else module / "__init__.py"


@cache
def nodes(text: str, types_too: bool = True) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a file, with or without those that only type checkers follow."""
    tree = ast.parse(text)
    if not types_too:
        tree.body = [
            node
            for node in tree.body
            if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        ]
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def modules(file: Path) -> set[str]:
    """The modules that a file names in its absolute imports."""
    names = set()
    for node in nodes(file.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif not node.level:
            names.add(str(node.module))
    return names


def closure(file: Path, package: Path = PACKAGE) -> set[Path]:
    """The file and all that it imports, directly or not; neutral files lead nowhere."""
    files, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current in files:
            continue
        files.add(current)
        if current.relative_to(package).as_posix() not in NEUTRAL:
            waiting += imports(current, package)
    return {path for path in files if path.relative_to(package).as_posix() not in NEUTRAL}


def undeclared(stage: str, package: Path = PACKAGE) -> list[str]:
    """The files that a stage imports, and that no dep in dvc.yaml covers."""
    deps = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["deps"]
    covered = [package.parents[1] / dep for dep in deps]
    return sorted(
        path.relative_to(package).as_posix()
        for path in closure(package / STAGES[stage], package)
        if path.name != "__init__.py" and not any(path == dep or dep in path.parents for dep in covered)
    )


def room(file: Path, package: Path = PACKAGE) -> str:
    """The room that a file of the package lies in; a file beside the rooms is a room of its own."""
    return file.relative_to(package).parts[0]


def sources(package: Path = PACKAGE) -> list[Path]:
    return sorted(package.rglob("*.py"))


def may_import(importer: str, target: str) -> bool:
    """Whether `target` is a room that `importer` may import."""
    if importer in ON_TOP:
        return target in FLOORS or (importer, target) in {("cli", "pipeline.py"), ("__main__.py", "cli")}
    if importer in NEUTRAL:
        return (importer, target) == ("params.py", "train")  # the vocabulary of a variant
    if target == DRAWING:
        return importer in FLOORS
    return importer in FLOORS and target in FLOORS and FLOORS.index(importer) < FLOORS.index(target)


def wrong_way(package: Path = PACKAGE) -> list[str]:
    """The imports that go up."""
    faults = []
    for file in sources(package):
        importer = room(file, package)
        for imported in imports(file, package, types_too=importer not in NEUTRAL):
            target = room(imported, package)
            if not (importer == target or target in NEUTRAL or may_import(importer, target)):
                faults.append(f"{file.relative_to(package).as_posix()} -> {imported.relative_to(package).as_posix()}")
    return faults


def test_every_room_has_its_floor() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    beside = {path.name for path in PACKAGE.glob("*.py")}
    assert rooms | beside == set(FLOORS) | NEUTRAL | ON_TOP | {DRAWING}


def test_imports_go_down_only() -> None:
    assert wrong_way() == []


def test_training_imports_nothing_of_the_project_but_errors_and_paths() -> None:
    outside = {
        path.relative_to(PACKAGE).as_posix()
        for file in sources()
        if room(file) == "train"
        for path in imports(file, types_too=True)
        if room(path) != "train"
    }
    assert outside <= {"errors.py", "paths.py", "__init__.py"}


def test_no_circle_of_files() -> None:
    graph = {file: set(imports(file)) - {file, PACKAGE / "__init__.py"} for file in sources()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # it raises CycleError, which names them


def test_only_the_rooms_of_mlflow_import_it() -> None:
    assert {room(file) for file in sources() if any(name.split(".")[0] == "mlflow" for name in modules(file))} == MLFLOW


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_file_that_it_imports(stage: str) -> None:
    assert undeclared(stage) == []


@pytest.mark.parametrize(
    ("stage", "file", "line", "missing"),
    [
        ("train", "train/batches.py", "from car_or_truck.cells import cell", "cells/cell.py"),
        ("train", "train/batches.py", "def later():\n    from car_or_truck.drawing import canvas", "drawing.py"),
        ("train", "train/scaling.py", "from ..evaluate.scores import wilson", "evaluate/scores.py"),
        ("train", "train/scaling.py", "import car_or_truck.evaluate.scores", "evaluate/scores.py"),
        ("evaluate", "drawing.py", "from car_or_truck.compare.figures import cost", "compare/figures.py"),
        ("prepare", "prepare/images.py", "from car_or_truck.train import scaling", "train/scaling.py"),
    ],
)
def test_an_import_of_another_room_is_noticed(stage: str, file: str, line: str, missing: str, tmp_path: Path) -> None:
    package = copied(tmp_path)
    assert undeclared(stage, package) == []
    add(package / file, line)
    assert missing in undeclared(stage, package)


@pytest.mark.parametrize(
    ("file", "line", "up"),
    [
        ("train/scaling.py", "from car_or_truck.evaluate.scores import wilson", "evaluate/scores.py"),
        ("cells/cell.py", "if TYPE_CHECKING:\n    from car_or_truck.compare import stage", "compare/stage.py"),
        ("evaluate/stage.py", "def later():\n    from car_or_truck.tracking import store", "tracking/store.py"),
        ("tracking/store.py", "from car_or_truck.registry import gates", "registry/gates.py"),
        ("registry/gates.py", "from car_or_truck import pipeline", "pipeline.py"),
        ("drawing.py", "from car_or_truck.compare.figures import cost", "compare/figures.py"),
        ("files.py", "from car_or_truck.cells import times", "cells/times.py"),
        ("fetch/stage.py", "from car_or_truck.prepare import images", "prepare/images.py"),
    ],
)
def test_an_import_that_goes_up_is_noticed(file: str, line: str, up: str, tmp_path: Path) -> None:
    package = copied(tmp_path)
    add(package / file, line)
    assert f"{file} -> {up}" in wrong_way(package)


def copied(folder: Path) -> Path:
    """The package, to change."""
    package = folder / "src" / "car_or_truck"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def add(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")


def test_what_only_types_need_is_no_dependency(tmp_path: Path) -> None:
    package = copied(tmp_path)
    add(package / "train/batches.py", "if TYPE_CHECKING:\n    from car_or_truck.cells.cell import Cell")
    assert undeclared("train", package) == []


def test_no_file_is_long() -> None:
    lengths = {file.relative_to(PACKAGE).as_posix(): len(file.read_text().splitlines()) for file in sources()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_the_tests_mirror_the_rooms() -> None:
    rooms = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py") if path.parent != TESTS}
    assert rooms == set(FLOORS)


def test_no_test_module_imports_another() -> None:
    theirs = {path.stem for path in TESTS.rglob("*.py") if path.parent.name != "helpers"}
    borrowed = {}
    for file in sorted(TESTS.rglob("*.py")):
        froms = [node for node in nodes(file.read_text(encoding="utf-8")) if isinstance(node, ast.ImportFrom)]
        names = modules(file) | {alias.name for node in froms for alias in node.names}  # from folder import test_it
        borrowed[file.name] = {name for name in names if set(name.split(".")) & theirs}
    assert {name: imported_names for name, imported_names in borrowed.items() if imported_names} == {}
