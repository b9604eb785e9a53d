"""The verbs for registered models: part of the command `car-or-truck`, see cli.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from car_or_truck import params

app = typer.Typer()
VersionName = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="3, an alias, or models:/NAME/3; else the challenger.")
]


def _console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(width=None if stream.isatty() else 110, stderr=stderr)


@app.command()
def promote(
    version: VersionName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, and change nothing.")] = False,
    force: Annotated[str, typer.Option(metavar="REASON", help="Promote though gates fail; recorded.")] = "",
    history: Annotated[bool, typer.Option("--history", help="List every champion there has been.")] = False,
) -> None:
    """Make a version the champion, if it passes the gates of params.yaml (promotion).

    Example: car-or-truck promote --dry-run
    """
    from car_or_truck import promotion

    if history:
        promotion.show_history(_console())
    else:
        promotion.promote(params.load(), version, _console(), dry_run, force)


@app.command()
def rollback() -> None:
    """Make the previous champion the champion again; once more undoes it.

    Example: car-or-truck rollback
    """
    from car_or_truck import promotion

    promotion.rollback(_console())


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, URLs; - reads stdin.")],
    model: Annotated[
        str | None, typer.Option(help="3, an alias, models:/NAME/3, or a folder such as models/tutorial/31415.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Answer as CSV.")] = False,
    explain: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw there where the net looks, with Grad-CAM.")
    ] = None,
) -> None:
    """Label and probability of any picture, by the champion.

    Example: car-or-truck predict photo.jpg folder/ --explain why.png
    """
    if json and csv:
        raise typer.BadParameter("give one of --json and --csv")
    from car_or_truck import predict as verb

    form = "json" if json else "csv" if csv else "text"
    if verb.predict(images, model, form, explain, _console(stderr=True)):
        raise typer.Exit(1)


@app.command()
def reproduce(
    version: Annotated[
        str | None, typer.Argument(metavar="[MODEL_URI]", help="models:/NAME/3, 3 or an alias; else the champion.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Train it again in a temporary clone, and compare.")] = False,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far a prediction may be off on another machine.")
    ] = 0.01,
) -> None:
    """Trace a model back to its commit, parameters, data and environment; with --run, make it again.

    Example: car-or-truck reproduce models:/car-or-truck/3 --run
    """
    from car_or_truck import reproduce as verb

    verb.reproduce(version, _console(), run, tolerance)


@app.command()
def clean(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False) -> None:
    """Remove MLflow's runs, versions and artifacts that no alias, no output and no DVC experiment refers to.

    Example: car-or-truck clean --dry-run
    """
    from car_or_truck import clean as verb

    verb.clean(params.load(), _console(), dry_run)
