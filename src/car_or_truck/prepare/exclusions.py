"""The images that a person leaves out, with the reason for each: the file that data.exclude names."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection
from pathlib import Path

from car_or_truck.errors import Failure


def read_exclusions(path: Path, images: Collection[str], skip_unknown: bool = False) -> list[dict[str, str]]:
    """The name and the reason of each image to leave out, in the order of the file.

    `images` are the names of all images: SPLIT/CLASS/FILE. Other columns than name and reason are ignored.
    Raises Failure, which names the line, for a file that cannot be read, for a repeated name, for a
    missing reason, and for an unknown name unless `skip_unknown`.
    """
    lines: dict[str, int] = {}
    excluded = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
            table = csv.DictReader(file, strict=True, skipinitialspace=True)
            if not {"name", "reason"} <= set(table.fieldnames or ()):
                raise Failure(
                    f"{path}, line 1: the header must be name,reason, but is {table.fieldnames or 'missing'}."
                )
            for row in table:
                where = f"{path}, line {table.line_num}"
                if None in row:
                    raise Failure(f"{where}: more fields than the header. Put quotes around a text that has a comma.")
                name, reason = ((row[column] or "").strip() for column in ("name", "reason"))
                if name not in images:
                    if skip_unknown:
                        continue
                    raise Failure(f"{where}: there is no image {name!r}.{_suggestion(name, images)}")
                if name in lines:
                    raise Failure(f"{where}: {name} is listed in line {lines[name]} already. Remove one of the two.")
                if not reason:
                    raise Failure(f"{where}: {name} has no reason. Write one after the comma.")
                lines[name] = table.line_num
                excluded.append({"name": name, "reason": reason})
    except OSError as error:
        remedy = (
            "Correct data.exclude in params.yaml, or make a file whose only line is name,reason: it excludes nothing."
        )
        raise Failure(f"{path} cannot be read ({error.strerror}). {remedy}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"{path} is not a CSV file in UTF-8 ({error}). Save it as one.") from None
    return excluded


def _suggestion(name: str, images: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, images, n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else " Names are SPLIT/CLASS/FILE, as below data/raw."
