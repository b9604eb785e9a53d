"""The command `car-or-truck`. A verb imports what it needs when it runs: `--help` is quick."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

from car_or_truck import cli_models, params
from car_or_truck.errors import Failure

app = typer.Typer(
    help="Which custom convnet tells a car from a truck best, and how badly does each one overfit?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Variant = Annotated[str, typer.Argument(metavar="VARIANT", help="A variant that params.yaml defines.")]
Seed = Annotated[int, typer.Argument(metavar="SEED", help="A non-negative integer.", min=0, max=2**32 - 1)]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False) -> None:
    if debug:
        os.environ["CAR_OR_TRUCK_DEBUG"] = "1"


@app.command()
def fetch() -> None:
    """Fetch the images into data/raw, from the first of data.sources that can be reached.

    Example: car-or-truck fetch
    """
    from car_or_truck import fetch as stage

    stage.fetch(params.load().data)


@app.command()
def prepare() -> None:
    """Decode data/raw once to the arrays in data/prepared, and audit it.

    Example: car-or-truck prepare
    """
    from car_or_truck import prepare as stage

    stage.prepare(params.load().data)


def _cell(variant: str) -> params.Params:
    loaded = params.load()
    if variant not in loaded.variants:
        raise Failure(f"params.yaml defines no variant {variant!r}; it defines {', '.join(loaded.variants)}.")
    return loaded


@app.command()
def train(variant: Variant, seed: Seed) -> None:
    """Train one variant with one seed, into models/VARIANT/SEED.

    Example: car-or-truck train tutorial 31415
    """
    loaded = _cell(variant)
    from car_or_truck import train as stage

    stage.train(loaded, variant, seed)


@app.command()
def evaluate(variant: Variant, seed: Seed) -> None:
    """Judge a trained cell on valid, into reports/cells/VARIANT/SEED.

    Example: car-or-truck evaluate tutorial 31415
    """
    loaded = _cell(variant)
    from car_or_truck import evaluate as stage

    stage.evaluate(loaded, variant, seed)


@app.command()
def compare() -> None:
    """Put all cells of params.yaml side by side, into reports/.

    Example: car-or-truck compare
    """
    loaded = params.load()
    from car_or_truck import compare as stage

    stage.compare(loaded)
    leaderboard()
    from car_or_truck.challenger import name_challenger

    print(name_challenger(loaded))


@app.command()
def leaderboard() -> None:
    """Print the comparison as a table.

    Example: car-or-truck leaderboard
    """
    from car_or_truck import leaderboard as room

    room.show(Console(width=None if sys.stdout.isatty() else 110))


@app.command()
def sync() -> None:
    """Make every MLflow run that is lacking, from DVC's outputs, and deliver to the tracking server what it missed.

    Example: MLFLOW_TRACKING_URI=https://mlflow.example.org car-or-truck sync
    """
    from car_or_truck import sync as room

    room.sync()


app.add_typer(cli_models.app)


def main() -> None:
    """Run the command: exits 0 on success, 1 on a failure explained on stderr, 2 on wrong usage."""
    try:
        app()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if "CAR_OR_TRUCK_DEBUG" in os.environ:
            traceback.print_exc()
        elif isinstance(error, Failure):
            print(error, file=sys.stderr)
        else:
            print(
                f"Unexpected {type(error).__name__}: {error}\n`car-or-truck --debug ...` shows where.", file=sys.stderr
            )
        sys.exit(1)
