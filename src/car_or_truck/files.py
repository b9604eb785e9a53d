"""Files and folders that are there whole or not at all, and what they hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from car_or_truck.errors import Failure


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` (`path` + ".part"), which takes the place of `path` at the end.

    When the block raises, `path` stays as it was. A process killed on the way leaves at most the
    ".part" folder, which the next one starts by removing.
    """
    part = path.with_name(path.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    except OSError as error:
        raise Failure(f"Cannot write {path}: {error.strerror or error} ({error.filename or part}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all; its folder is made if need be."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise Failure(f"Cannot write {path}: {error.strerror or error}.") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. A number that is not finite is an error."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """The JSON in `path`; a Failure with the `remedy` when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} cannot be read ({error}). {remedy}") from None


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def share(checksum: str, purpose: str) -> float:
    """A number in [0, 1) that depends on a content alone, for splits that stay as they are when files are added."""
    return int(hashlib.sha256(f"{purpose} {checksum}".encode()).hexdigest()[:13], 16) / 16**13


def content_digest(entries: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over (name, sha256) pairs, sorted by name; in hexadecimal.

    The text that is hashed is what `sha256sum` prints, so anyone can check the digest of data/raw:
    `cd data/raw && find train valid -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum`
    """
    digest = hashlib.sha256()
    for name, checksum in sorted(entries, key=lambda entry: os.fsencode(entry[0])):
        digest.update(f"{checksum}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
