"""How long trainings took on this machine: kept outside DVC's outputs, which hold nothing that varies between runs."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import NamedTuple

from car_or_truck import files, paths
from car_or_truck.errors import Failure
from car_or_truck.train.runtime import available_threads, bfloat16_feature


class Pace(NamedTuple):
    """Of a training, validation included."""

    seconds: float  # wall time
    cpu_seconds: float
    images_per_second: float


def write_pace(fingerprint: str, pace: Pace) -> None:
    """Remember how long a cell's training took."""
    files.write_json(paths.scratch("times") / f"{fingerprint}.json", pace._asdict())


def read_pace(fingerprint: str) -> Pace | None:
    """How long a cell's training took; None when it was not trained here."""
    try:
        return Pace(**json.loads((paths.scratch("times") / f"{fingerprint}.json").read_bytes()))
    except (OSError, ValueError, TypeError, Failure):  # the last: a folder that cannot be written to
        return None


def processor() -> str:
    """This machine's cores, its processor, and whether that has bfloat16: "2 cores of AMD EPYC (no bfloat16)"."""
    info = Path("/proc/cpuinfo")  # on Linux; elsewhere the platform's own name has to do
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{available_threads()} cores of {name} ({bfloat16_feature() or 'no bfloat16'})"


def duration(seconds: float) -> str:
    """In the unit that fits: "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
