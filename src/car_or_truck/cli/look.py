"""Verbs that show results, and use the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from car_or_truck.cli.app import app, console

PANEL = "Look"  # of the help


@app.command(rich_help_panel=PANEL)
def leaderboard(
    explain: Annotated[bool, typer.Option("--explain", help="Add the first pairs, and what the columns mean.")] = False,
) -> None:
    """Show the comparison as a table.

    Example: car-or-truck leaderboard --explain
    """
    from car_or_truck.compare import leaderboard

    leaderboard.show(console(), explain)


@app.command(rich_help_panel=PANEL)
def record() -> None:
    """Keep scores and predictions in results/, for git.

    Adds the models of params.yaml that are trained and evaluated here to those recorded before, and compares them.
    Of their variants it drops what was recorded with another recipe, precision, code or library version.

    Example: car-or-truck record
    """
    from car_or_truck import params
    from car_or_truck.commands import record

    record.record(params.load())


@app.command(rich_help_panel=PANEL)
def ui(port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000) -> None:
    """Start the MLflow UI, with links to the best models.

    Prints its address, and links to the views "Best on validation" and "Most overfitted". Where MLFLOW_TRACKING_URI
    names a server, it starts none, and prints the links there.

    Example: car-or-truck ui --port 5001
    """
    from car_or_truck.commands import ui

    ui.ui(port)


@app.command(rich_help_panel=PANEL)
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders or URLs; - reads stdin.")],
    model: Annotated[
        str | None,
        typer.Option(help="3, an alias, models:/NAME/3, or a folder such as models/tutorial/31415; default: champion."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    coverage: Annotated[
        float | None,
        typer.Option(help="Add prediction sets that hold the true label with this probability."),
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw where the model looks (Grad-CAM) into this file.")
    ] = None,
) -> None:
    """Tell a car from a truck in any picture.

    The champion's label and its confidence: the calibrated probability of the label, which is "unsure" below 75%. A
    picture unlike the training images is marked. JSON and CSV hold the model's own probability, too.

    Example: car-or-truck predict photo.jpg folder/ --explain why.png
    """
    if json and csv:
        raise typer.BadParameter("give one of --json and --csv")
    if explain and explain.suffix.lower() != ".png":
        raise typer.BadParameter(f"{explain} does not end in .png", param_hint="--explain")
    if coverage is not None and not 0 < coverage < 1:
        raise typer.BadParameter(f"{coverage:g} is not between 0 and 1", param_hint="--coverage")
    errors = console(stderr=True)
    with errors.status("Loading TensorFlow ..."):  # for seconds; nothing where stderr is no terminal
        from car_or_truck.commands import predict

    form = "json" if json else "csv" if csv else "text"
    output = predict.Output(form, coverage, explain)
    if predict.predict(images, model, output, errors):
        raise typer.Exit(1)


@app.command(rich_help_panel=PANEL)
def demo(
    model: Annotated[str | None, typer.Option(help="3, an alias, or models:/NAME/3, instead of the champion.")] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="On 127.0.0.1; 0: any free one.")] = 7860,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page to drop a photo on.

    On this machine; answered by the champion, which also shows where it looks.

    Example: car-or-truck demo --open
    """
    from car_or_truck.commands import demo

    demo.demo(model, port, open_page, console(stderr=True))
