"""What do the intervals between recipes cover? `python benchmarks/intervals.py [RUNS]` prints two tables.

The first compares two equally good recipes, mostly one with itself on other seeds: 95% of the intervals should hold
zero, and 5% of the p-values be below 0.05. The second has a true difference, and tells how often it becomes
significant. Each line is of RUNS simulations (2000).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from car_or_truck.compare.statistics import paired_difference

Answers = tuple[
    NDArray[np.bool_], NDArray[np.bool_]
]  # of two recipes: whether each seed is right about each image, [seeds, images]
Simulation = Callable[[np.random.Generator], Answers]
SEEDS = ((2, 2), (3, 3), (6, 6), (1, 4), (5, 2))
DRAWS = 2000


def calibrated(
    random: np.random.Generator, errors: tuple[float, float], images: int, seeds: tuple[int, int]
) -> Answers:
    """Two recipes whose seeds are equally good, and calibrated together.

    Each seed doubts an image with a probability from a beta distribution, and the label is as doubtful:
    the error is then the mean of 2 doubt (1 - doubt), and the variance between seeds is error / 2n.
    """
    ease, surprise = random.random((2, images))  # the same images are hard for both recipes
    doubts = {error: np.interp(ease, *_doubts(error)) for error in set(errors)}
    first, second = (
        (random.random((count, images)) >= doubts[error]) == (surprise >= doubts[error])
        for error, count in zip(errors, seeds, strict=True)
    )
    return first, second


@cache
def _doubts(error: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quantiles of the doubt, at their levels."""
    shape, levels = error / (1 - 2 * error), np.linspace(0, 1, 20_001)
    return levels, beta.ppf(levels / 2, shape, shape)


def spread(
    random: np.random.Generator, deviation: float, images: int, seeds: tuple[int, int], first: float | None = None
) -> Answers:
    """Two recipes of 80% accuracy, whose seeds truly differ by a standard deviation; some images are harder.

    The seeds of the first may differ by another, `first`.
    """
    difficulty = random.random(images)

    def answers(count: int, deviation: float) -> NDArray[np.bool_]:
        skill = np.clip(0.8 + deviation * random.standard_normal(count), 0.01, 0.99)[:, None]
        limit = np.where(skill < 0.5, np.sqrt(skill / 2), 1 - np.sqrt((1 - skill) / 2))  # of the mean of two uniforms
        return np.asarray((random.random((count, images)) + difficulty) / 2 < limit)

    return answers(seeds[0], deviation if first is None else first), answers(seeds[1], deviation)


def simulate(simulation: Simulation, runs: int, draws: int = DRAWS) -> tuple[float, float, float]:
    """The share of intervals that hold zero, the share of p < 0.05, and the mean width of the intervals."""
    random = np.random.default_rng(0)
    differences = [paired_difference(*simulation(random), draws=draws) for _ in range(runs)]
    low, high, p = (np.array([getattr(each, name) for each in differences]) for name in ("low", "high", "p"))
    return float(((low <= 0) & (high >= 0)).mean()), float((p < 0.05).mean()), float((high - low).mean())


def main(runs: int = 2000) -> None:
    print("| two equally good recipes | seeds | covered | p < 0.05 | width, points |\n|---|---|---|---|---|")
    for error in (0.024, 0.12):
        for seeds in SEEDS:
            simulation = partial(calibrated, errors=(error, error), images=5051, seeds=seeds)
            print_line(f"calibrated, error {error:.1%}, 5051 images", seeds, simulate(simulation, runs))
    for deviation in (0.003, 0.006, 0.01, 0.02, 0.1):
        for seeds in ((2, 2), (3, 3), (5, 2)):
            simulation = partial(spread, deviation=deviation, images=2000, seeds=seeds)
            print_line(f"true spread {100 * deviation:.1f} points, 2000 images", seeds, simulate(simulation, runs))
    for seeds in ((2, 2), (3, 3), (4, 4), (5, 3), (10, 3), (5, 2), (20, 2), (2, 5)):
        simulation = partial(spread, deviation=0.02, images=2000, seeds=seeds, first=0.0)
        print_line("true spread 0.0 and 2.0 points, 2000 images", seeds, simulate(simulation, runs))
    print("\n| errors of the two | seeds of each | significant | width, points |\n|---|---|---|---|")
    for errors in ((0.024, 0.029), (0.116, 0.126), (0.116, 0.136)):
        for count in (2, 3, 4, 6, 8, 12):
            simulation = partial(calibrated, errors=errors, images=5051, seeds=(count, count))
            _, power, width = simulate(simulation, runs)
            print(f"| {errors[0]:.1%} and {errors[1]:.1%} | {count} | {power:.2f} | {100 * width:.2f} |", flush=True)


def print_line(name: str, seeds: tuple[int, int], outcome: tuple[float, float, float]) -> None:
    covered, small, width = outcome
    print(f"| {name} | {seeds[0]} and {seeds[1]} | {covered:.3f} | {small:.3f} | {100 * width:.2f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
