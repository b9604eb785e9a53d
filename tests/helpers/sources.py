"""The key `data` of params.yaml, for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from car_or_truck import params
from helpers.clones import ROOT

SHIPPED = params.load(ROOT / "params.yaml").data


SMALL = {"train": 8, "valid": 8, "seed": 1}


def data(*order: str, **settings: Any) -> params.Data:
    return params.Data.model_validate(
        SHIPPED.model_dump()
        | {"sources": order, "rendered": SMALL}
        | {
            name: (SMALL if name == "rendered" else SHIPPED.model_dump()[name]) | value
            if isinstance(value, dict)
            else value
            for name, value in settings.items()
        }
    )


def nothing_was_written(raw: Path) -> bool:
    return not raw.exists() and not list(raw.parent.glob("*"))
