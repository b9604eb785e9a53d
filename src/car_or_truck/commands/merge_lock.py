"""`merge-lock`: git's merge driver for dvc.lock, which merges two records of runs stage by stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from car_or_truck import files
from car_or_truck.errors import Failure, summarize
from car_or_truck.lock import lock_text

ABSENT, CONFLICT = object(), object()  # neither is equal to anything in a file


def merge_lock(base: Path, ours: Path, theirs: Path) -> None:
    """Merge `theirs` into the lock file `ours`, given the last common version `base`.

    A stage that both sides ran differently is left out, unless one of them ran it with the merged inputs: then
    `dvc repro` runs it again. Raises Failure, and writes nothing, when a file is no lock file.
    """
    sides = [_stages(path, side) for path, side in ((base, "BASE"), (ours, "OURS"), (theirs, "THEIRS"))]
    merged: dict[str, Any] = {}
    names = list(dict.fromkeys(name for side in (*sides[1:], sides[0]) for name in side))
    for name in names:
        _settle(name, sides, merged)
        if merged[name] is CONFLICT:
            print(f"dvc.lock: {name} was changed on both sides; `dvc repro` runs it again.", file=sys.stderr)
    stages = {name: merged[name] for name in names if merged[name] not in (ABSENT, CONFLICT)}
    files.write_text(ours, lock_text(stages))


def _stages(path: Path, side: str) -> dict[str, Any]:
    """The stages of a lock file; none of an empty file, which git gives for a file that did not exist."""
    try:
        lock = YAML().load(path.read_text(encoding="utf-8") or "{schema: '2.0', stages: {}}")
        stages = dict(lock.pop("stages"))
        if lock == {"schema": "2.0"} and all(map(_inputs, stages.values())):
            return stages
        reason = "it holds something else than stages of schema 2.0"
    except (OSError, ValueError, YAMLError, AttributeError, KeyError, TypeError) as error:
        reason = summarize(error)
    raise Failure(f"{side} ({path}) is not a lock file of DVC: {reason}.\nMerge dvc.lock by hand, or restore one side.")


def _settle(name: str, sides: list[dict[str, Any]], merged: dict[str, Any]) -> None:
    """Put a stage into `merged`, after those whose outs it depends on: what was recorded, ABSENT or CONFLICT."""
    if name in merged:
        return
    base, ours, theirs = (side.get(name, ABSENT) for side in sides)
    merged[name] = CONFLICT  # for a stage that depends on itself
    if ours == theirs or theirs == base:
        merged[name] = ours
    elif ours == base:
        merged[name] = theirs
    elif ABSENT not in (ours, theirs):
        inputs = _three_way({} if base is ABSENT else _inputs(base), _inputs(ours), _inputs(theirs))
        for path in inputs["deps"]:
            for producer in [stage for side in sides[1:] for stage in side if path in _contents(side[stage], "outs")]:
                _settle(producer, sides, merged)
                hashes = {} if merged[producer] in (ABSENT, CONFLICT) else _contents(merged[producer], "outs")
                inputs["deps"][path] = hashes.get(path, CONFLICT)
        merged[name] = next((stage for stage in (ours, theirs) if _inputs(stage) == inputs), CONFLICT)


def _inputs(stage: dict[str, Any]) -> dict[str, Any]:
    return {"cmd": stage["cmd"], "params": stage.get("params", {}), "deps": _contents(stage, "deps")}


def _contents(stage: dict[str, Any], kind: str) -> dict[str, Any]:
    """The hash of each of a stage's deps or outs, or what else is recorded, by its path."""
    return {entry["path"]: entry.get("md5", entry) for entry in stage.get(kind, [])}


def _three_way(base: Any, ours: Any, theirs: Any) -> Any:
    """What changed on one side, or equally on both; mappings key by key; CONFLICT for what has no such value."""
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return CONFLICT
    three = (base if isinstance(base, dict) else {}, ours, theirs)
    merged = {key: _three_way(*(side.get(key, ABSENT) for side in three)) for side in three for key in side}
    return {key: value for key, value in merged.items() if value is not ABSENT}
