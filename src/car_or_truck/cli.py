"""The command `car-or-truck`. Each verb imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from car_or_truck import params
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
VersionName = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="3, an alias, or models:/NAME/3; default: the challenger.")
]


def _console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(width=None if stream.isatty() else 110, stderr=stderr)


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False) -> None:
    if debug:
        os.environ["CAR_OR_TRUCK_DEBUG"] = "1"


@app.command()
def fetch() -> None:
    """Fetch the images into data/raw, from the first reachable source of data.sources.

    Example: car-or-truck fetch
    """
    from car_or_truck import pipeline

    pipeline.fetch(params.load())


@app.command()
def prepare() -> None:
    """Audit the images in data/raw and decode them to the arrays in data/prepared.

    Example: car-or-truck prepare
    """
    from car_or_truck import pipeline

    pipeline.prepare(params.load())


@app.command()
def train(variant: Variant, seed: Seed) -> None:
    """Train one variant with one seed, into models/VARIANT/SEED.

    Example: car-or-truck train tutorial 31415
    """
    loaded = params.load_with(variant)
    from car_or_truck import pipeline

    pipeline.train(loaded, variant, seed)


@app.command()
def evaluate(variant: Variant, seed: Seed) -> None:
    """Evaluate a trained model on the validation set, into reports/cells/VARIANT/SEED.

    Example: car-or-truck evaluate tutorial 31415
    """
    loaded = params.load_with(variant)
    from car_or_truck import pipeline

    pipeline.evaluate(loaded, variant, seed)


@app.command()
def compare() -> None:
    """Compare all models that params.yaml names, into reports/.

    Example: car-or-truck compare
    """
    loaded = params.load()
    from car_or_truck import pipeline

    pipeline.compare(loaded, _console())


@app.command()
def leaderboard() -> None:
    """Print the comparison as a table.

    Example: car-or-truck leaderboard
    """
    from car_or_truck.compare import leaderboard

    leaderboard.show(_console())


@app.command()
def promote(
    version: VersionName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge only; change nothing.")] = False,
    force: Annotated[
        str, typer.Option(metavar="REASON", help="Promote even if gates fail; the reason is recorded.")
    ] = "",
    history: Annotated[bool, typer.Option("--history", help="List every champion so far.")] = False,
) -> None:
    """Make a version the champion if it passes the gates (promotion in params.yaml).

    Example: car-or-truck promote --dry-run
    """
    from car_or_truck.commands import promote

    if history:
        promote.show_history(_console())
    else:
        promote.promote(params.load(), version, _console(), dry_run, force)


@app.command()
def rollback() -> None:
    """Make the previous champion the champion again. A second rollback undoes the first.

    Example: car-or-truck rollback
    """
    from car_or_truck.commands import promote

    promote.rollback(_console())


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or URLs; - reads stdin.")],
    model: Annotated[
        str | None, typer.Option(help="3, an alias, models:/NAME/3, or a folder such as models/tutorial/31415.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    coverage: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Add prediction sets that hold the true label with this probability."),
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw where the model looks (Grad-CAM) into this file.")
    ] = None,
) -> None:
    """Predict label and probability of any picture with the champion; says which are unlike its training images.

    Example: car-or-truck predict photo.jpg folder/ --explain why.png
    """
    if json and csv:
        raise typer.BadParameter("give one of --json and --csv")
    from car_or_truck.commands import predict

    form = "json" if json else "csv" if csv else "text"
    output = predict.Output(form, coverage, explain)
    if predict.predict(images, model, output, _console(stderr=True)):
        raise typer.Exit(1)


@app.command()
def reproduce(
    version: Annotated[
        str | None, typer.Argument(metavar="[MODEL_URI]", help="models:/NAME/3, 3 or an alias; default: the champion.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Train it again in a temporary clone, and compare.")] = False,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest difference of a prediction that is accepted.")
    ] = 0.01,
) -> None:
    """Trace a model back to its commit, parameters, data and packages; with --run, train it again.

    Example: car-or-truck reproduce models:/car-or-truck/3 --run
    """
    from car_or_truck.commands import reproduce

    reproduce.reproduce(version, _console(), run, tolerance)


@app.command()
def sync(
    independent: Annotated[
        bool, typer.Option("--independent", help="First give a copied mlflow.db artifacts of its own.")
    ] = False,
) -> None:
    """Rebuild the MLflow runs that are missing here, and deliver those that the tracking server lacks.

    Example: MLFLOW_TRACKING_URI=https://mlflow.example.org car-or-truck sync
    """
    from car_or_truck.commands import sync

    sync.sync(independent)


@app.command()
def clean(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False) -> None:
    """Remove runs, versions and artifacts that no alias, output or DVC experiment refers to.

    Example: car-or-truck clean --dry-run
    """
    from car_or_truck.commands import clean

    clean.clean(params.load(), _console(), dry_run)


@app.command()
def merge_lock(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The last version that both sides share.")],
    ours: Annotated[Path, typer.Argument(metavar="OURS", help="One side; the result is written here.")],
    theirs: Annotated[Path, typer.Argument(metavar="THEIRS", help="The other side.")],
) -> None:
    """Merge two versions of dvc.lock stage by stage; git calls this in `git merge`, once `make` has registered it.

    Example: car-or-truck merge-lock base.lock dvc.lock theirs.lock
    """
    from car_or_truck.commands import merge_lock

    merge_lock.merge_lock(base, ours, theirs)


def main() -> None:
    """Run the command. Exits 0 on success, 1 on a failure explained on stderr, 2 on wrong usage."""
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
                f"Unexpected {type(error).__name__}: {error}\n`car-or-truck --debug ...` shows the traceback.",
                file=sys.stderr,
            )
        sys.exit(1)
