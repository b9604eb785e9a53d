"""The comparison as a table for people: in the terminal, and in the report."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from car_or_truck import files, paths
from car_or_truck.errors import Failure

LEGEND = [
    "accuracy: of the kept weights on {valid} valid images. 95 %: its interval (Wilson), which knows of their number, "
    "not of a seed's luck.",
    "gap: accuracy on train minus that on valid, last epoch, in points. rise: last val_loss over the lowest, @its "
    "epoch.",
]
TIME = "time, images/s: of the training, validation included, on the machine that trained it."
COLLAPSED = "* collapsed: it gives the same answer to every image."
FLATTERED = "+ keep: best chose the epoch by these very images: its accuracy flatters."


class Column(NamedTuple):
    """A column's title, and what it means where that needs saying."""

    title: str
    about: str = ""


class Cell(NamedTuple):
    """What is shown, and what the report sorts by."""

    text: str
    value: Any


def show(console: Console) -> None:
    """Print reports/comparison.csv as a table, and the verdict."""
    path = paths.REPORTS / "comparison.csv"
    if not path.is_file():
        raise Failure(f"There is no {path} yet. Run `dvc repro`.")
    comparison = files.read_json(paths.REPORTS / "comparison.json", "Run `dvc repro compare`.")
    data = comparison["data"]
    table = pd.read_csv(path)
    # What a variant costs is shown where there is room for it.
    wide = Measurement.get(console, console.options.update(max_width=1000), _grid(table, costs=True)).maximum
    costs = bool(wide <= console.width)
    console.print(_grid(table, costs))
    for line in [*comparison["verdict"], *_pairs(comparison["pairs"]), *comparison["overfitting"]]:
        console.print(line, highlight=False, soft_wrap=False)
    if comparison["changes"]:
        console.print()
    for line in comparison["changes"]:
        console.print(line, highlight=False, soft_wrap=False)
    console.print()
    for line in legend(table, data, costs=costs):
        console.print(line, highlight=False, soft_wrap=False, style="dim")
    if data["stand_in"]:
        console.print(
            "These are the drawn STAND-IN images, not photographs: `make data` fetches again.", style="yellow"
        )


def _grid(table: pd.DataFrame, costs: bool) -> Table:
    grid = Table(
        title="Accuracy on valid, best first", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in columns(table, costs):
        grid.add_column(column.title, justify="left" if column.title == "variant" else "right", no_wrap=True)
    for row, cells in zip(table.itertuples(), rows(table, costs), strict=True):
        grid.add_row(*(cell.text for cell in cells), style=None if _is_sound(row) else "dim")
    return grid


def _pairs(pairs: list[dict[str, Any]], most: int = 6) -> list[str]:
    if len(pairs) == 1 and pairs[0]["certain"]:
        return []  # the verdict has said it
    words = [pair["words"] for pair in pairs]
    rest = len(words) - most
    return words if rest <= 0 else [*words[:most], f"and {rest} pairs more: reports/report.html."]


def _is_sound(row: Any) -> bool:
    return row.status == "compared" and not row.collapsed


def columns(table: pd.DataFrame, costs: bool = True, scores: bool = False) -> list[Column]:
    """The columns to show: `costs` adds what a variant costs, `scores` all that the report has room for."""
    found = [Column("variant"), Column("seed"), Column("accuracy"), Column("95 %", "Wilson interval of the accuracy")]
    if "test_binary_accuracy" in table:
        found.append(Column("test", "accuracy on the test split, which nothing else reads"))
    if scores:
        found += [
            Column("balanced", "mean of both classes' recalls"),
            Column("F1"),
            Column("ROC AUC"),
            Column("AP", "average precision"),
            Column("log loss", "nats; val_loss of the kept weights"),
            Column("Brier", "mean squared error of the probability"),
            Column("ECE", "expected calibration error, in points"),
            Column("@threshold", "accuracy at the threshold that is best on train, and that threshold"),
        ]
    found += [
        Column("gap", "accuracy on train minus that on valid, last epoch, in points"),
        Column("rise @epoch", "last val_loss over the lowest, @its epoch"),
    ]
    if not scores:
        found.append(Column("parameters"))
    if costs:
        found.append(Column("mult-adds", "for one image, in millions"))
        if table["seconds"].notna().any():
            found += [Column("time", "of the training"), Column("images/s", "while it was trained")]
    return found


def rows(table: pd.DataFrame, costs: bool = True, scores: bool = False) -> list[list[Cell]]:
    """What `columns` heads, for each row of comparison.csv."""
    heads = [column.title for column in columns(table, costs, scores)]
    shown = []
    for row in table.itertuples():
        if row.status == "compared":
            cells = _cells(row)
        else:
            cells = {"variant": Cell(row.variant, row.variant), "seed": Cell(str(row.seed), row.seed)}
            cells["accuracy"] = Cell("missing", -1)
        shown.append([cells.get(head, Cell("", -1e9)) for head in heads])
    return shown


def _cells(row: Any) -> dict[str, Cell]:
    """By the titles of `columns`."""
    error = row.val_expected_calibration_error
    cells = {
        "variant": Cell(row.variant + "*" * bool(row.collapsed) + "+" * (row.keep == "best"), row.variant),
        "seed": Cell(str(row.seed), row.seed),
        "accuracy": Cell(f"{row.val_binary_accuracy:.4f}", row.val_binary_accuracy),
        "95 %": Cell(f"{row.interval_low:.3f}-{row.interval_high:.3f}", row.interval_low),
        "test": _number(getattr(row, "test_binary_accuracy", None), 4),
        "balanced": _number(row.val_balanced_accuracy),
        "F1": _number(row.val_f1),
        "ROC AUC": _number(getattr(row, "val_roc_auc", None)),
        "AP": _number(getattr(row, "val_average_precision", None)),
        "log loss": _number(row.val_loss),
        "Brier": _number(row.val_brier_score),
        "ECE": Cell(f"{100 * error:.1f}", error),
        "@threshold": Cell(
            f"{row.val_binary_accuracy_at_threshold:.4f} @{row.threshold:.2f}", row.val_binary_accuracy_at_threshold
        ),
        "gap": Cell(f"{100 * row.generalization_gap:+.1f}", row.generalization_gap),
        "rise @epoch": Cell(f"{row.overfit_rise:+.3f} @{int(row.overfit_epoch)}", row.overfit_rise),
        "parameters": Cell(f"{int(row.parameters):,}", int(row.parameters)),
        "mult-adds": Cell(f"{row.multiply_adds / 1e6:,.1f} M", int(row.multiply_adds)),
    }
    if pd.notna(row.seconds):
        cells["time"] = Cell(duration(row.seconds), row.seconds)
        cells["images/s"] = Cell(f"{row.images_per_second:,.0f}", row.images_per_second)
    return cells


def _number(value: float | None, digits: int = 3) -> Cell:
    return Cell("", -1) if value is None or pd.isna(value) else Cell(f"{value:.{digits}f}", value)


def duration(seconds: float) -> str:
    """In the unit that fits: "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def legend(table: pd.DataFrame, data: dict[str, Any], costs: bool = True) -> list[str]:
    """What the columns mean, and the marks if there are any."""
    lines = [line.format(valid=sum(data["counts"]["valid"].values())) for line in LEGEND]
    if costs and table["seconds"].notna().any():
        lines.append(TIME)
    if (table["collapsed"] == True).any():  # noqa: E712 - missing cells have none
        lines.append(COLLAPSED)
    return [*lines, FLATTERED] if (table["keep"] == "best").any() else lines
