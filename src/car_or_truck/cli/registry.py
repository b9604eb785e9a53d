"""Verbs on registered models and their store."""

from __future__ import annotations

from typing import Annotated

import typer

from car_or_truck.cli.app import app, console

PANEL = "Registry"  # of the help


@app.command(rich_help_panel=PANEL)
def promote(
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="3, an alias, or models:/NAME/3; default: the challenger.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge only; change nothing.")] = False,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote even if gates fail; the reason is recorded.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="List every champion so far.")] = False,
) -> None:
    """Make a version champion if it passes the gates.

    The gates are `promotion` in params.yaml; the old champion becomes the previous one.

    Example: car-or-truck promote --dry-run
    """
    from car_or_truck import params
    from car_or_truck.commands import promote

    if history and (version is not None or dry_run or force is not None):
        raise typer.BadParameter("--history only lists: give it alone")
    if force is not None and not force.strip():
        raise typer.BadParameter("--force needs a reason")
    if history:
        promote.show_history(console())
    else:
        promote.promote(params.load(), version, console(), dry_run, force or "")


@app.command(rich_help_panel=PANEL)
def rollback() -> None:
    """Make the previous champion champion again.

    A second rollback undoes the first.

    Example: car-or-truck rollback
    """
    from car_or_truck.commands import promote

    promote.rollback(console())


@app.command(rich_help_panel=PANEL)
def reproduce(
    version: Annotated[str, typer.Argument(metavar="MODEL_URI", help="models:/NAME/3, 3 or an alias.")] = "champion",
    run: Annotated[bool, typer.Option("--run", help="Train it again in a temporary clone, and compare.")] = False,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest difference of a prediction that is accepted.")
    ] = 0.01,
) -> None:
    """Trace a model to its origin; with --run, train it again.

    Its origin: commit, parameters, data and packages, and whether they are available here.

    Example: car-or-truck reproduce models:/car-or-truck/3 --run
    """
    from car_or_truck.commands import reproduce

    reproduce.reproduce(version, console(), run, tolerance)


@app.command(rich_help_panel=PANEL)
def sync(
    independent: Annotated[
        bool, typer.Option("--independent", help="First give a copied mlflow.db artifacts of its own.")
    ] = False,
) -> None:
    """Rebuild and deliver missing MLflow runs.

    Rebuilds those that are missing here from DVC's outputs, and delivers those that the tracking server lacks.

    Example: MLFLOW_TRACKING_URI=https://mlflow.example.org car-or-truck sync
    """
    from car_or_truck import params
    from car_or_truck.commands import sync

    sync.sync(params.load(), independent)


@app.command(rich_help_panel=PANEL)
def clean(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False) -> None:
    """Remove runs and versions that are not in use.

    Moves the runs and logged models that no alias, trained model, branch, tag or DVC experiment refers to into MLflow's
    trash, and deletes their versions. Searches by `tune` stay, and so does what a person made or lies elsewhere.

    Example: car-or-truck clean --dry-run
    """
    from car_or_truck import params
    from car_or_truck.commands import clean

    clean.clean(params.load(), console(), dry_run)
