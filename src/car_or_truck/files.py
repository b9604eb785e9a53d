"""Files and folders written whole or not at all, and digests of what they hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from car_or_truck.errors import Failure

if TYPE_CHECKING:
    import pandas as pd

Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` (`path` + ".part") that replaces `path` at the end.

    If the block raises, `path` is left untouched. A killed process leaves at most the ".part" folder,
    which the next call removes, or the old one as ".old.part", which it brings back.
    """
    path = path.resolve() if path.is_symlink() else path  # of a folder that lies on another disk
    part, old = path.with_name(path.name + ".part"), path.with_name(path.name + ".old.part")
    try:
        if old.exists() and not path.exists():  # killed between the two renames
            old.rename(path)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        try:
            part.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise Failure(f"Cannot make {path}: {error.strerror or error} ({error.filename or part}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, with its suffix, that replaces `path` at the end; creates its folder."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise Failure(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all; creates its folder."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write `table` without its index, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. Raises ValueError for a number that is not finite."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cause(error: Exception) -> str:
    """Why a file cannot be read, without its path."""
    return getattr(error, "strerror", None) or str(error)


def read_json(path: Path, remedy: str) -> Any:
    """The JSON in `path`; a Failure that ends with `remedy` when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} cannot be read ({cause(error)}). {remedy}") from None


def read_model(path: Path, kind: type[Model], remedy: str) -> Model:
    """The JSON in `path` as an object of `kind`; a Failure that ends with `remedy` when it does not hold one."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = cause(error)
        if isinstance(error, ValidationError):
            broken = any(detail["type"] == "json_invalid" for detail in error.errors())
            reason = "it is broken" if broken else f"wrong: {_keys(error)}"
        raise Failure(f"{path} cannot be read ({reason}). {remedy}") from None


def _keys(error: ValidationError) -> str:
    """The keys that are wrong, the first three of them."""
    names = [".".join(map(str, detail["loc"])) or "all of it" for detail in error.errors()]
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(entries: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over (name, sha256) pairs, sorted by name; in hexadecimal.

    The hashed text is what `sha256sum` prints, so the digest of data/raw can be checked by hand:
    `cd data/raw && find train valid -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum`
    """
    digest = hashlib.sha256()
    for name, checksum in sorted(entries, key=lambda entry: os.fsencode(entry[0])):
        digest.update(f"{checksum}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
