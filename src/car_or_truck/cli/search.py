"""The verb that searches for better values of a variant's keys."""

from __future__ import annotations

from typing import Annotated

import typer

from car_or_truck.cli.app import app
from car_or_truck.cli.stages import Variant

PANEL = "Search"  # of the help


@app.command(rich_help_panel=PANEL)
def tune(
    variant: Variant,
    over: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUES", help="LOW:HIGH, LOW:HIGH:log, or A|B; once for each key."),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Number of trials in all, pruned ones included.")] = 20,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Seed of all trials. Default: the first of train.seeds."),
    ] = None,
) -> None:
    """Search for better values of a variant's keys.

    Trains on four fifths of train and judges on the rest; validation is never read. Prints the winner as YAML for
    params.yaml. The same command resumes it after Ctrl-C or a kill; a second process of it shares the work.

    Needs Optuna: pip install -e '.\\[tune]'.

    Example: car-or-truck tune sprint --over optimizer.learning_rate=1e-3:3e-2:log --over "augment.flip=true|false"
    """
    from car_or_truck import params

    loaded = params.load_with(variant)
    from car_or_truck.commands import tune

    tune.tune(loaded, variant, over, trials, seed)
