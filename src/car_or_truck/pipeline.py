"""The five stages as DVC calls them."""

from __future__ import annotations

from rich.console import Console

from car_or_truck.params import Params


def fetch(params: Params) -> None:
    """Stage `fetch`."""
    from car_or_truck.fetch import stage

    stage.fetch(params.data)


def prepare(params: Params) -> None:
    """Stage `prepare`."""
    from car_or_truck.prepare import stage

    stage.prepare(params.data)


def train(params: Params, variant: str, seed: int) -> None:
    """Stage `train`, of one variant with one seed."""
    from car_or_truck.train import fit

    fit.train(params, variant, seed)


def evaluate(variant: str, seed: int) -> None:
    """Stage `evaluate`, of one variant with one seed."""
    from car_or_truck import params
    from car_or_truck.evaluate import stage

    stage.evaluate(params.load(), variant, seed)


def compare(params: Params, console: Console) -> None:
    """Stage `compare`."""
    from car_or_truck.compare import leaderboard, stage
    from car_or_truck.registry.challenger import name_challenger

    stage.compare(params)
    leaderboard.show(console)
    print(name_challenger(params))
