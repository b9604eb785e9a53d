"""The comparison as a table for people: in the terminal, and in the report."""

from __future__ import annotations

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
    "gap: accuracy of the saved weights on train minus that on validation, in points. rise: final minus lowest "
    "validation loss, and the epoch of the lowest.",
)
WIDEST = 100  # columns
TIME = "time, images/s: of the training with its validation, on this machine."
COLLAPSED = "* collapsed: it gives the same answer to every image."
BIASED = "+ keep: best selected the weights on validation: its accuracy is optimistically biased."
MOST_PAIRS = 6
QUALITY, SCORES, SIZE, COSTS, TIMES = "quality", "scores", "size", "costs", "times"  # groups of columns


class Column(NamedTuple):
    """A column: its title, its group, how it shows a row of `_view`, the field to sort by, and what it means."""

    title: str
    group: str
    form: str
    field: str
    about: str = ""


class Entry(NamedTuple):
    """What is shown, and what the report sorts by."""

    text: str
    value: Any


COLUMNS = (
    Column("variant", "", "{marked}", "variant"),
    Column("seed", "", "{seed}", "seed"),
    Column("accuracy", "", "{val_binary_accuracy:.1%}", "val_binary_accuracy"),
    Column("95% CI", QUALITY, "{low:.1f}-{high:.1f}", "low", "Wilson interval"),
    Column("test", QUALITY, "{test_binary_accuracy:.1%}", "test_binary_accuracy", "on test, which nothing else reads"),
    Column("balanced", SCORES, "{val_balanced_accuracy:.3f}", "val_balanced_accuracy", "mean of both classes' recalls"),
    Column("F1", SCORES, "{val_f1:.3f}", "val_f1"),
    Column("ROC AUC", SCORES, "{val_roc_auc:.3f}", "val_roc_auc"),
    Column("AP", SCORES, "{val_average_precision:.3f}", "val_average_precision", "average precision"),
    Column("log loss", SCORES, "{val_loss:.3f}", "val_loss", "val_loss of the saved weights, in nats"),
    Column("Brier", SCORES, "{val_brier_score:.3f}", "val_brier_score", "mean squared error of the probability"),
    Column("ECE", SCORES, "{calibration:.1f}", "calibration", "expected calibration error, in points"),
    Column("gap", QUALITY, "{gap:+.1f}", "gap", "accuracy on train minus that on validation, in points"),
    Column("overfits", QUALITY, "{grade}", "grade", "by its gap and its rise: see the grades below"),
    Column("rise @epoch", SCORES, "{overfit_rise:+.3f} @{overfit_epoch:.0f}", "overfit_rise", "of val_loss"),
    Column("parameters", SIZE, "{parameters:,.0f}", "parameters"),
    Column("mult-adds", COSTS, "{millions:,.1f} M", "millions", "multiply-adds for one image, in millions"),
    Column("time", TIMES, "{duration}", "seconds", "of the training"),
    Column("images/s", TIMES, "{images_per_second:,.0f}", "images_per_second", "while it trained"),
)


def show(console: Console, explain: bool = False) -> None:
    """Print reports/comparison.csv as a table, and the verdict; `explain` adds every pair, and what columns mean."""
    path = paths.REPORTS / "comparison.csv"
    if not path.is_file():
        raise Failure(f"There is no {path} yet. Run `dvc repro`.")
    comparison = files.read_json(paths.REPORTS / "comparison.json", "Run `dvc repro compare`.")
    data, table = comparison["data"], _with_times(pd.read_csv(path), comparison["trained"])
    groups = _groups(console, table)
    if data["stand_in"]:
        console.print("These are SYNTHETIC images, not photographs: `make data` fetches again.", style="yellow")
    console.print(_grid(table, groups))
    shown = [*comparison["verdict"], *comparison["changes"]]
    if explain:
        pairs = [pair["words"] for pair in comparison["pairs"]]
        if len(pairs) > MOST_PAIRS:
            pairs[MOST_PAIRS:] = [f"{len(pairs) - MOST_PAIRS} more pairs are in reports/report.html."]
        shown = [*comparison["verdict"], "", *pairs, "", *comparison["overfitting"], "", *comparison["changes"]]
    for line in shown:
        console.print(line, highlight=False)
    marks, valid = notes(table), sum(data["counts"]["valid"].values())
    timed = any(column.group == TIMES for column in columns(table, groups))
    meanings = [*legend(table, valid), f"overfits: {overfitting.LEGEND}", *[TIME] * timed] if explain else marks
    for line in meanings:
        console.print(line, highlight=False, style="dim")
    more = "" if explain else " `car-or-truck leaderboard --explain` says what the columns mean."
    console.print(f"\nIn full: {paths.REPORTS / 'report.html'}.{more}", highlight=False)


def show_first(console: Console, table: pd.DataFrame, trained: dict[str, str], count: int) -> None:
    """Print the models that are evaluated so far, of `count`, as rows of comparison.csv; `trained` as there."""
    table = _with_times(table, trained)
    console.print(_grid(table, _groups(console, table), f"; {len(table)} of {count} models so far"))
    for line in notes(table):
        console.print(line, highlight=False, style="dim")


def _groups(console: Console, table: pd.DataFrame) -> set[str]:
    """The groups of columns for which the console, narrowed to WIDEST, has room."""
    groups, console.width = {QUALITY, SIZE, TIMES}, min(console.width, WIDEST)
    wanted = Measurement.get(console, console.options.update(max_width=1000), _grid(table, groups)).maximum
    return groups if wanted <= console.width else {QUALITY}


def _with_times(table: pd.DataFrame, trained: dict[str, str]) -> pd.DataFrame:
    """The table with how long each training took here; `trained` maps VARIANT-SEED to its fingerprint."""
    names = table["variant"] + "-" + table["seed"].astype(str)
    paces = [read_pace(trained[name]) if name in trained else None for name in names]
    if not any(paces):
        return table
    return table.join(pd.DataFrame([pace or [None] * len(Pace._fields) for pace in paces], columns=Pace._fields))


def _grid(table: pd.DataFrame, groups: set[str], progress: str = "") -> Table:
    title = Text(f"Accuracy on validation, best first{progress}", "bold")
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns(table, groups):
        grid.add_column(column.title, justify="left" if column.title == "variant" else "right", no_wrap=True)
    for row, entries in zip(table.itertuples(), rows(table, groups), strict=True):
        sound = row.status == "compared" and not row.collapsed
        grid.add_row(*(entry.text for entry in entries), style=None if sound else "dim")
    return grid


def columns(table: pd.DataFrame, groups: set[str]) -> list[Column]:
    """The columns of these groups, and those that name a model, as far as the table has their fields."""
    fields = _view(table).columns
    return [column for column in COLUMNS if column.group in {"", *groups} and column.field in fields]


def rows(table: pd.DataFrame, groups: set[str]) -> list[list[Entry]]:
    """The entries under `columns`, for each row of comparison.csv."""
    shown = columns(table, groups)
    return [[_entry(column, row) for column in shown] for row in _view(table).to_dict("records")]


def _view(table: pd.DataFrame) -> pd.DataFrame:
    """The table with fields in the units that are shown."""
    marks = np.where(table["collapsed"].eq(True), "*", "").astype(object) + np.where(table["keep"].eq("best"), "+", "")
    view = table.assign(
        marked=table["variant"] + marks,
        calibration=100 * table["val_expected_calibration_error"],
        gap=100 * table["generalization_gap"],
        low=100 * table["interval_low"],
        high=100 * table["interval_high"],
        millions=table["multiply_adds"] / 1e6,
    )
    return view.assign(duration=view["seconds"].map(duration, na_action="ignore")) if "seconds" in view else view


def _entry(column: Column, row: dict[str, Any]) -> Entry:
    if column.title == "accuracy" and row["status"] != "compared":
        return Entry("missing", -1)
    value = row[column.field]
    return Entry("", -1e9) if pd.isna(value) else Entry(column.form.format(**row), value)


def legend(table: pd.DataFrame, valid: int) -> list[str]:
    """What the columns and marks mean; `valid` is the number of validation images."""
    return [*(line.format(valid=valid) for line in LEGEND), *notes(table)]


def notes(table: pd.DataFrame) -> list[str]:
    """What the marks beside a variant's name mean, as far as there are any."""
    collapsed, biased = table["collapsed"].eq(True).any(), (table["keep"] == "best").any()
    return [COLLAPSED] * bool(collapsed) + [BIASED] * bool(biased)
