"""The stages, as dvc.yaml calls them."""

from __future__ import annotations

from typing import Annotated

import typer

from car_or_truck import params
from car_or_truck.cli.app import app, console

Variant = Annotated[str, typer.Argument(metavar="VARIANT", help="A variant that params.yaml defines.")]
Seed = Annotated[int, typer.Argument(metavar="SEED", help="A non-negative integer.", min=0, max=2**32 - 1)]


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

    pipeline.compare(loaded, console())
