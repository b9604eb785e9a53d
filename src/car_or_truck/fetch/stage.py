"""Stage `fetch`: the images, from the first source that can be reached, into data/raw.

The folder arrives whole or stays as it was. Being offline loses nothing: real images that were
fetched before are never replaced by synthetic ones unless params.yaml asks for these alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.panel import Panel

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders, sources
from car_or_truck.fetch.download import Unreachable, mask_secrets
from car_or_truck.fetch.sources import console
from car_or_truck.paths import RAW, SOURCE

if TYPE_CHECKING:
    from car_or_truck.params import Data


def fetch(data: Data, raw: Path = RAW) -> dict[str, Any]:
    """Fetch into `raw`; returns what is written into its SOURCE.json.

    Raises Failure when no source can be reached, when one is wrong, when a person's own images are in
    `raw`, and when synthetic images would replace real ones because a source is out of reach.
    """
    _refuse_strangers(raw)
    unreached: list[str] = []
    for source in data.sources:
        request = _request(data, source)
        if source == "rendered" and unreached:
            _refuse_replacement(raw, data, unreached)
        try:
            with files.whole_folder(raw) as folder:
                origin = sources.get(source, data, folder)
                record = _describe(folder, source, request, origin, unreached)
                files.write_json(folder / SOURCE.name, record)
        except Unreachable as error:
            console.print(f"{source}: out of reach ({error}).")
            kept_record = _find_kept_record(raw, source, request)
            if kept_record:
                console.print(f"{source}: keeping the {kept_record['images']} images fetched before.")
                return kept_record
            unreached.append(source)
        else:
            _announce(record)
            return record
    raise Failure(
        f"None of data.sources ({', '.join(data.sources)}) can be reached. "
        "Connect to the network, correct params.yaml, or add `rendered`, which is always available."
    )


def _request(data: Data, source: str) -> dict[str, Any]:
    """What was asked of a source, to recognize the same request again; without the secrets of a URL."""
    settings: dict[str, Any] = getattr(data, source).model_dump(mode="json")
    url = settings.get("url") or ""
    if "://" in url and mask_secrets(url) != url:
        settings["url"] = mask_secrets(url)
        # Tells two queries apart, and is slow to compute so that a password cannot be guessed from it.
        settings["url_digest"] = hashlib.scrypt(url.encode(), salt=mask_secrets(url).encode(), n=2**14, r=8, p=1).hex()
    return {**settings, "classes": list(data.classes), "valid_fraction": data.valid_fraction}


def _describe(
    folder: Path, source: str, request: dict[str, Any], origin: dict[str, Any], unreached: list[str]
) -> dict[str, Any]:
    counts = folders.count_images(folder, request["classes"], source)
    names = [f"{split}/{name}" for split, _, name in folders.list_images(folder, request["classes"])]
    checksums = {name: files.sha256(folder / name) for name in names}
    return {
        "source": source,
        "stand_in": source == "rendered",
        "unreached": unreached,
        "request": request,
        "origin": origin,
        "classes": request["classes"],
        "counts": counts,
        "images": len(names),
        "digest": files.content_digest(checksums.items()),
        "sha256": checksums,
    }


def _find_kept_record(raw: Path, source: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """The record of images in `raw` that this very request fetched before and nobody has changed since."""
    try:
        record: dict[str, Any] = files.read_json(raw / SOURCE.name, "")
        if record["source"] != source or record["request"] != request:
            return None
        description = _describe(raw, source, request, record["origin"], record["unreached"])
    except (Failure, KeyError, TypeError):
        return None
    return record if description["digest"] == record["digest"] else None


def _refuse_strangers(raw: Path) -> None:
    """Raise Failure if `raw` holds a file that is not as `fetch` recorded it: such are a person's own."""
    try:
        record = files.read_json(raw / SOURCE.name, "")
        digest, fetched = record["digest"], record.get("sha256", {})  # older records have the digest alone
    except (Failure, KeyError, TypeError):
        digest, fetched = "", {}
    found = (path for path in raw.rglob("[!.]*") if path.is_file() and path.name != SOURCE.name)
    checksums = {str(path.relative_to(raw)): files.sha256(path) for path in found}
    strange = [name for name, checksum in checksums.items() if fetched.get(name) != checksum]
    if strange and files.content_digest(checksums.items()) != digest:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise Failure(
            f"{raw} holds files that `fetch` did not put there ({min(strange)}{more}), or lost its {SOURCE.name}. "
            "Move them away, and name their folder in data.directory.path; or remove them."
        )


def _refuse_replacement(raw: Path, data: Data, unreached: list[str]) -> None:
    """Raise Failure if `raw` holds real images: synthetic ones replace them only where no other source is named."""
    try:
        record = files.read_json(raw / SOURCE.name, "")
        source, images, request = record["source"], record["images"], record["request"]
    except (Failure, KeyError, TypeError):
        return
    if record["stand_in"]:
        return
    if source not in unreached:
        difference = ""
    elif request == _request(data, source):
        difference = ", changed since they were fetched"
    else:
        difference = ", fetched with other settings"
    raise Failure(
        f"Out of reach: {', '.join(unreached)}. {raw} holds {images} images of {source}{difference}, and is left as "
        "it is.\nConnect and run `make data`, or restore the settings in params.yaml; to use synthetic images "
        f"instead, remove {raw} or list only `rendered` in data.sources."
    )


def _announce(record: dict[str, Any]) -> None:
    counts = "; ".join(
        f"{folders.split_name(split)}: " + ", ".join(f"{count} {name}" for name, count in classes.items())
        for split, classes in record["counts"].items()
    )
    console.print(f"{record['images']} images from {record['source']} ({counts}).")
    if record["stand_in"] and record["unreached"]:
        console.print(
            Panel(
                f"Out of reach: {', '.join(record['unreached'])}. These are SYNTHETIC IMAGES, drawn by the\n"
                "project, not photographs. Models trained on them go to the MLflow\n"
                "experiment car-or-truck-rendered. `make data` fetches again;\n"
                "docs/data.md tells how to name another source in params.yaml.",
                title="not the real data",
                border_style="yellow",
                expand=False,
            )
        )
