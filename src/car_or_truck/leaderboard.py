"""The comparison as a table for people: in the terminal, and in the report."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from car_or_truck import files, layout
from car_or_truck.errors import Failure

COLUMNS = ["variant", "seed", "accuracy", "95 %", "gap", "rise @epoch", "parameters"]
LEGEND = [
    "accuracy: of the kept weights on {valid} valid images. 95 %: its interval (Wilson), which knows of their number, "
    "not of a seed's luck.",
    "gap: accuracy on train minus that on valid, last epoch, in points. rise: last val_loss over the lowest, @its "
    "epoch.",
]
COLLAPSED = "collapsed: it gives the same answer to every image."


def show(console: Console) -> None:
    """Print reports/comparison.csv as a table."""
    path = layout.REPORTS / "comparison.csv"
    if not path.is_file():
        raise Failure(f"There is no {path} yet. Run `dvc repro`.")
    comparison = files.read_json(layout.REPORTS / "comparison.json", "Run `dvc repro compare`.")
    data = comparison["data"]
    table = pd.read_csv(path)
    grid = Table(
        title="Accuracy on valid, best first", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for name in COLUMNS:
        grid.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for row in table.itertuples():
        grid.add_row(*shown(row), style="dim" if row.collapsed else None)
    console.print(grid)
    for line in [*comparison["changes"], *legend(table, data)]:
        console.print(line, highlight=False, soft_wrap=False)
    if data["stand_in"]:
        console.print(
            "These are the drawn STAND-IN images, not photographs: `make data` fetches again.", style="yellow"
        )


def shown(row: Any) -> list[str]:
    """One row of the comparison, as people read it."""
    return [
        row.variant + "*" * bool(row.collapsed),
        str(row.seed),
        f"{row.val_binary_accuracy:.4f}",
        f"{row.interval_low:.3f}-{row.interval_high:.3f}",
        f"{100 * row.generalization_gap:+.1f}",
        f"{row.overfit_rise:+.3f} @{row.overfit_epoch}",
        f"{row.parameters:,}",
    ]


def legend(table: pd.DataFrame, data: dict[str, Any]) -> list[str]:
    """What the columns mean, and the star if there is one."""
    lines = [line.format(valid=sum(data["counts"]["valid"].values())) for line in LEGEND]
    return [*lines, f"* {COLLAPSED}"] if table["collapsed"].any() else lines
