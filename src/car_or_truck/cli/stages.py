"""The stages, as dvc.yaml calls them."""

from __future__ import annotations

from typing import Annotated

import typer

from car_or_truck.cli.app import app, console

PANEL = "Stages (dvc repro runs these)"  # of the help
Variant = Annotated[str, typer.Argument(metavar="VARIANT", help="A variant that params.yaml defines.")]
Seed = Annotated[int, typer.Argument(metavar="SEED", help="A non-negative integer.", min=0, max=2**32 - 1)]


@app.command(rich_help_panel=PANEL)
def fetch() -> None:
    """Fetch the images into data/raw.

    They come from the first source of data.sources that can be reached.

    Example: car-or-truck fetch
    """
    from car_or_truck import params, pipeline

    pipeline.fetch(params.load())


@app.command(rich_help_panel=PANEL)
def prepare() -> None:
    """Audit the images, and decode them to arrays.

    From data/raw into data/prepared and reports/data.

    Example: car-or-truck prepare
    """
    from car_or_truck import params, pipeline

    pipeline.prepare(params.load())


@app.command(rich_help_panel=PANEL)
def train(variant: Variant, seed: Seed) -> None:
    """Train one variant with one seed.

    Writes models/VARIANT/SEED; an interrupted training continues after its last finished epoch.

    Example: car-or-truck train tutorial 31415
    """
    from car_or_truck import params

    loaded = params.load_with(variant)
    from car_or_truck import pipeline

    pipeline.train(loaded, variant, seed)


@app.command(rich_help_panel=PANEL)
def evaluate(variant: Variant, seed: Seed) -> None:
    """Evaluate a trained model on validation.

    Writes reports/cells/VARIANT/SEED.

    Example: car-or-truck evaluate tutorial 31415
    """
    from car_or_truck import params

    loaded = params.load_with(variant)
    from car_or_truck import pipeline

    pipeline.evaluate(loaded, variant, seed, console())


@app.command(rich_help_panel=PANEL)
def compare() -> None:
    """Compare all models of params.yaml.

    Writes reports/, and gives the alias challenger to the best model: with a champion, only to one that passes the
    gates and is more accurate.

    Example: car-or-truck compare
    """
    from car_or_truck import params

    loaded = params.load()
    from car_or_truck import pipeline

    pipeline.compare(loaded, console())
