"""The comparison as a table in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from car_or_truck import files, paths
from car_or_truck.cells.times import Pace, duration, read_pace
from car_or_truck.compare import overfitting
from car_or_truck.errors import Failure

LEGEND = (
    "accuracy: of the saved weights on {valid} validation images. 95% CI: Wilson interval; reflects the number of "
    "images, not seed variance.",
    "gap: accuracy of the saved weights on train minus that on validation, in points.",
)
WIDEST = 100  # columns
AS_WRITTEN: Any = {"dtype": {"variant": str}, "keep_default_na": False, "na_values": [""]}  # 64 and nan are names too
TIME = "time, images/s: of the training with its validation, on this machine."
COLLAPSED = "* collapsed: it gives the same answer to every image."
BIASED = "+ keep: best selected the weights on validation: its accuracy is optimistically biased."
MOST_PAIRS = 6
KEYS = {"changes", "data", "overfitting", "pairs", "trained", "verdict"}  # that are shown of comparison.json
QUALITY, SIZE, TIMES = "quality", "size", "times"  # groups of columns


class Column(NamedTuple):
    """A column: its title, how it shows a row of `view`, the field without which it is left out, and what it means."""

    title: str
    form: str
    field: str
    about: str = ""


VARIANT = Column("variant", "{marked}", "variant")
SEED = Column("seed", "{seed}", "seed")
ACCURACY = Column(
    "accuracy", "{val_binary_accuracy:.1%}", "val_binary_accuracy", "of the saved weights on the validation set"
)
TEST = Column(
    "test", "{test_binary_accuracy:.1%}", "test_binary_accuracy", "accuracy on test, on which the gates judge"
)
PARAMETERS = Column("parameters", "{parameters:,.0f}", "parameters")
COLUMNS = {  # by group; the first is always there
    "": (VARIANT, SEED, ACCURACY),
    QUALITY: (
        Column("95% CI", "{low:.1f}-{high:.1f}", "low"),
        TEST,
        Column("gap", "{gap:+z.1f}", "gap"),
        Column("overfits", "{grade}", "grade"),
    ),
    SIZE: (PARAMETERS,),
    TIMES: (
        Column("time", "{duration}", "seconds"),
        Column("images/s", "{images_per_second:,.0f}", "images_per_second"),
    ),
}


def show(console: Console, explain: bool = False) -> None:
    """Print reports/comparison.csv as a table, and the verdict; `explain` adds pairs, and what columns mean."""
    path = paths.REPORTS / "comparison.csv"
    if not path.is_file():
        raise Failure(f"There is no {path} here ({Path.cwd()}). Run `dvc repro` in the project's root.")
    comparison = files.read_json(paths.REPORTS / "comparison.json", "Run `dvc repro compare`.")
    if missing_keys := KEYS - comparison.keys():  # another version of this project wrote it
        raise Failure(
            f"{paths.REPORTS}/comparison.json has no {', '.join(sorted(missing_keys))}. Run `dvc repro compare`."
        )
    try:
        table = pd.read_csv(path, **AS_WRITTEN)
        if "status" not in table:
            raise ValueError("it is cut off")
    except ValueError as error:
        raise Failure(f"{path} cannot be read ({error}). Run `dvc repro compare`.") from None
    data, table = comparison["data"], _with_times(table, comparison["trained"])
    groups = _groups(console, table)
    if data["stand_in"]:
        console.print(
            "These are SYNTHETIC images, not photographs: docs/data.md tells how to get those.", style="yellow"
        )
    console.print(_grid(table, groups))
    lines = [*comparison["verdict"], *comparison["changes"]]
    if explain:
        pairs = [pair["words"] for pair in comparison["pairs"]]
        if len(pairs) > MOST_PAIRS:
            pairs[MOST_PAIRS:] = [f"{len(pairs) - MOST_PAIRS} more pairs are in reports/comparison.json."]
        lines = [*comparison["verdict"], "", *pairs, "", *comparison["overfitting"], "", *comparison["changes"]]
    for line in lines:
        console.print(line)
    marks, valid = notes(table), sum(data["counts"]["valid"].values())
    meanings = marks
    if explain:
        legend, timed = [line.format(valid=valid) for line in LEGEND], TIMES in groups and "seconds" in table
        meanings = [*legend, *marks, f"overfits: {overfitting.LEGEND}", *[TIME] * timed]
    for line in meanings:
        console.print(line, style="dim")
    more = "" if explain else " `car-or-truck leaderboard --explain` says what the columns mean."
    console.print(f"\nIn full: {paths.REPORTS / 'report.html'}.{more}")


def show_progress(console: Console, table: pd.DataFrame, trained: dict[str, str], count: int) -> None:
    """Print the models that are evaluated so far, of `count`, as rows of comparison.csv; `trained` as there."""
    table = _with_times(table, trained)
    console.print(_grid(table, _groups(console, table), f"; {len(table)} of {count} models so far"))
    for line in notes(table):
        console.print(line, style="dim")


def _groups(console: Console, table: pd.DataFrame) -> set[str]:
    """The groups of columns for which the console, narrowed to WIDEST, has room."""
    groups, console.width = {QUALITY, SIZE, TIMES}, min(console.width, WIDEST)
    width = Measurement.get(console, console.options.update(max_width=1000), _grid(table, groups)).maximum
    return groups if width <= console.width else {QUALITY}


def _with_times(table: pd.DataFrame, trained: dict[str, str]) -> pd.DataFrame:
    """The table with how long each training took here; `trained` maps VARIANT-SEED to its fingerprint."""
    names = table["variant"] + "-" + table["seed"].astype(str)
    paces = [read_pace(trained[name]) if name in trained else None for name in names]
    if not any(paces):
        return table
    return table.join(pd.DataFrame([pace or [None] * len(Pace._fields) for pace in paces], columns=Pace._fields))


def _grid(table: pd.DataFrame, groups: set[str], progress: str = "") -> Table:
    """Columns of these groups, and those that name a model, as far as the table has their fields."""
    frame, title = view(table), Text(f"Accuracy on validation, best first{progress}", "bold")
    chosen = [column for group, part in COLUMNS.items() if group in {"", *groups} for column in part]
    columns = [column for column in chosen if column.field in frame]
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column is VARIANT  # it is shortened where there is no room, not the numbers
        width = 12 if name else None
        grid.add_column(column.title, justify="left" if name else "right", no_wrap=not name, min_width=width)
    for row in frame.to_dict("records"):
        sound = row["status"] == "compared" and not row["collapsed"]
        grid.add_row(*(_entry(column, row) for column in columns), style=None if sound else "dim")
    return grid


def view(table: pd.DataFrame) -> pd.DataFrame:
    """comparison.csv with fields in the units that are shown."""
    marks = np.where(table["collapsed"].eq(True), "*", "").astype(object) + np.where(table["keep"].eq("best"), "+", "")
    frame = table.assign(
        marked=table["variant"] + marks,
        gap=100 * table["generalization_gap"],
        low=100 * table["interval_low"],
        high=100 * table["interval_high"],
    )
    return frame.assign(duration=frame["seconds"].map(duration, na_action="ignore")) if "seconds" in frame else frame


def _entry(column: Column, row: dict[str, Any]) -> str:
    if column.title == "accuracy" and row["status"] != "compared":
        return "missing"
    return "" if pd.isna(row[column.field]) else column.form.format(**row)


def notes(table: pd.DataFrame) -> list[str]:
    """What the marks beside a variant's name mean, as far as there are any."""
    collapsed, biased = table["collapsed"].eq(True).any(), (table["keep"] == "best").any()
    return [COLLAPSED] * bool(collapsed) + [BIASED] * bool(biased)
