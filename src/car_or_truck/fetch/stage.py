"""Stage `fetch`: the images, from the first source that can be reached, into data/raw.

The folder arrives whole or stays as it was. Falling back to the stand-in is said loudly; images
fetched before are kept when their source is out of reach now, so being offline loses nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders, sources
from car_or_truck.fetch.download import Unreachable
from car_or_truck.params import Data
from car_or_truck.paths import RAW, SOURCE

console = Console(stderr=True)


def fetch(data: Data, raw: Path = RAW) -> dict[str, Any]:
    """Fetch into `raw`; returns what is written into its SOURCE.json."""
    unreached: list[str] = []
    for source in data.sources:
        request = {
            **getattr(data, source).model_dump(mode="json"),
            "classes": list(data.classes),
            "valid_fraction": data.valid_fraction,
        }
        try:
            with files.whole_folder(raw) as folder:
                origin = sources.get(source, data, folder)
                record = _describe(folder, source, request, origin, unreached)
                files.write_json(folder / SOURCE.name, record)
        except Unreachable as error:
            console.print(f"{source}: out of reach ({error}).", highlight=False)
            kept = _kept(raw, source, request)
            if kept:
                console.print(f"{source}: keeping the {kept['images']} images fetched before.", highlight=False)
                return kept
            unreached.append(source)
            continue
        _announce(record)
        return record
    raise Failure(
        f"None of data.sources ({', '.join(data.sources)}) can be reached. "
        "Connect to the network, correct params.yaml, or add `rendered`, which is always there."
    )


def _describe(
    folder: Path, source: str, request: dict[str, Any], origin: dict[str, Any], unreached: list[str]
) -> dict[str, Any]:
    counts = folders.check(folder, request["classes"], source)
    names = [f"{split}/{name}" for split, _, name in folders.images_of(folder, request["classes"])]
    return {
        "source": source,
        "stand_in": source == "rendered",
        "unreached": unreached,
        "request": request,
        "origin": origin,
        "classes": request["classes"],
        "counts": counts,
        "images": len(names),
        "digest": files.content_digest((name, files.sha256(folder / name)) for name in names),
    }


def _kept(raw: Path, source: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """The record of images in `raw` that this very request fetched before and nobody has changed since."""
    try:
        record: dict[str, Any] = files.read_json(raw / SOURCE.name, "")
        if record["source"] != source or record["request"] != request:
            return None
        now = _describe(raw, source, request, record["origin"], record["unreached"])
    except (Failure, KeyError, TypeError):
        return None
    return record if now["digest"] == record["digest"] else None


def _announce(record: dict[str, Any]) -> None:
    counts = "; ".join(
        f"{split}: " + ", ".join(f"{count} {name}" for name, count in classes.items())
        for split, classes in record["counts"].items()
    )
    console.print(f"{record['images']} images from {record['source']} ({counts}).", highlight=False)
    if record["stand_in"] and record["unreached"]:
        console.print(
            Panel(
                f"Out of reach: {', '.join(record['unreached'])}. These are the STAND-IN images that the\n"
                "project draws, not photographs. What is trained on them goes to the\n"
                "MLflow experiment car-or-truck-rendered. `make data` fetches again;\n"
                "README.md tells how to name another source in params.yaml.",
                title="not the real data",
                border_style="yellow",
                expand=False,
            )
        )
