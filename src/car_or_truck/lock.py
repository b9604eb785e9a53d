"""What dvc.lock says of the stages."""

from __future__ import annotations

import time
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from car_or_truck import paths
from car_or_truck.errors import Failure, summarize

LOCK = Path("dvc.lock")
WRITING = 1  # second, within which a file that changed may change again


def locked_stages() -> dict[str, Any]:
    """The entries of dvc.lock by stage; {} without it. Raises Failure when it is broken.

    DVC writes it in place, which takes part of a second: one that just changed is waited for.
    """
    for _ in range(10):
        if not LOCK.is_file() or not 0 <= time.time() - LOCK.stat().st_mtime < WRITING:
            break
        time.sleep(0.2)
    return read_stages(LOCK)


def read_stages(path: Path) -> dict[str, Any]:
    """The entries by stage of a lock file; {} without it. Raises Failure when it is broken."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None
    return stages_of(text, path)


def stages_of(text: str | None, path: Path = LOCK) -> dict[str, Any]:
    """The entries by stage of the lock file `path` with this text; {} without one. Raises Failure when it is broken."""
    try:
        return dict(YAML(typ="safe").load(text or "")["stages"])
    except (YAMLError, UnicodeError) as error:
        remedy = f"Run `git checkout HEAD -- {path}`" + ", then `dvc repro`" * (path == LOCK)
        raise Failure(f"{path} is not valid YAML: {summarize(error, 200)}. {remedy}.") from None
    except (KeyError, TypeError, ValueError):
        return {}


def lock_text(stages: dict[str, Any]) -> str:
    """A dvc.lock with these entries, as DVC writes it."""
    yaml, text = YAML(), StringIO()
    yaml.default_flow_style = False
    yaml.dump({"schema": "2.0", "stages": stages}, text)
    return text.getvalue()


def prepared_md5(stages: dict[str, Any]) -> str:
    """DVC's hash of the prepared images; empty where no stage wrote them."""
    outs = stages.get("prepare", {}).get("outs", [])
    return next((str(out["md5"]) for out in outs if out["path"] == str(paths.PREPARED)), "")
