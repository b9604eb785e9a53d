"""The app that all verbs belong to, and what their files share."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Which custom convnet tells a car from a truck best, and how badly does each one overfit?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def console(stderr: bool = False) -> Console:
    """The terminal, or 110 columns where the output goes elsewhere; a name may look like markup."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(width=None if stream.isatty() else 110, stderr=stderr, markup=False, emoji=False, highlight=False)


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False) -> None:
    if debug:
        os.environ["CAR_OR_TRUCK_DEBUG"] = "1"
