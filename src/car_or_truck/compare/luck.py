"""How much of an accuracy is luck: that of the seed, and that of being the best of many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from car_or_truck.compare.statistics import chi_square_p, seed_luck
from car_or_truck.compare.verdict import Correct
from car_or_truck.evaluate.scores import ALPHA, holm, wilson
from car_or_truck.train.recipe import THRESHOLD

DRAWS = 400  # of the bootstrap
LEAST_BIAS = 0.0005  # that is worth saying: 0.1 points, rounded


@dataclass(frozen=True)
class SeedSpread:
    """How much a variant's seeds differ in accuracy, and how much by luck on these images alone."""

    variant: str
    seeds: int
    predicted: float  # standard deviation
    observed: float | None  # standard deviation; None for a single seed
    p: float | None  # of a chi-square test against `predicted`

    @property
    def excessive(self) -> bool:
        """Whether seeds spread significantly more than luck on these images predicts."""
        return self.p is not None and self.p < ALPHA

    @property
    def words(self) -> str:
        """The spread in a sentence."""
        if self.observed is None and not self.predicted:
            return f"{self.variant} has one seed, which is right on all images: how far another moves it is unknown."
        if self.observed is None:
            expected = f"{100 * self.predicted:.2f} points are expected of equally good models"
            return f"{self.variant} has one seed, so the standard deviation over seeds is unknown; {expected}."
        predicted = f"{100 * self.predicted:.2f}"
        line = f"{self.variant}: the standard deviation of its {self.seeds} seeds is {100 * self.observed:.2f} points"
        if self.excessive:
            return f"{line}, significantly more than the {predicted} that equally good models would show."
        return f"{line}; {predicted} are expected of equally good models."


def seed_spreads(correct: Correct) -> list[SeedSpread]:
    """The spread of every variant, p after Holm's correction; `correct` maps a variant to [seeds, images]."""
    spreads = [seed_spread(variant, right) for variant, right in correct.items()]
    corrected = iter(holm([spread.p for spread in spreads if spread.p is not None]))
    return [spread if spread.p is None else replace(spread, p=float(next(corrected))) for spread in spreads]


def seed_spread(variant: str, right: NDArray[np.bool_]) -> SeedSpread:
    """The spread of a variant's accuracies, [seeds, images], before any correction.

    Several seeds show their luck: how much they differ on single images, beyond their accuracies. For one
    seed it is that of models whose probabilities are calibrated over their seeds, a variance of error / 2n
    on n images of two classes. Jordan (2024), ICLR, arXiv 2304.01910.
    """
    seeds, images = right.shape
    if seeds == 1:
        return SeedSpread(variant, seeds, float(np.sqrt((1 - right.mean()) / (2 * images))), None, None)
    predicted, observed = seed_luck(right) ** 0.5, float(right.mean(axis=1).std(ddof=1))
    return SeedSpread(variant, seeds, predicted, observed, chi_square_p((observed / predicted) ** 2, seeds - 1))


@dataclass(frozen=True)
class Average:
    """The seeds of a variant as one model, by the mean of their probabilities."""

    accuracy: float
    low: float  # of its 95% CI
    high: float
    gain: float  # over the mean accuracy of the seeds

    @property
    def words(self) -> str:
        """What it is worth, in a sentence."""
        interval = f"95% CI {100 * self.low:.1f} to {100 * self.high:.1f}"
        share = f"right on {100 * self.accuracy:.1f}% of the images ({interval})"
        return f"Averaged, their probabilities are {share}: {100 * self.gain:+z.1f} points."


def average_seeds(labels: NDArray[np.uint8], probability: NDArray[np.float64]) -> Average:
    """The average of a variant's seeds; `labels` is [images], `probability` [seeds, images]."""
    right = (probability.mean(axis=0) > THRESHOLD) == labels
    accuracy = float(right.mean())
    single = float(((probability > THRESHOLD) == labels).mean())
    return Average(accuracy, *wilson(int(right.sum()), len(labels)), accuracy - single)


@dataclass(frozen=True)
class Selection:
    """The most accurate of several models, on the images that chose it."""

    model: str
    models: int
    accuracy: float
    corrected: float  # without the bias of having been chosen

    @property
    def bias(self) -> float:
        """How much being chosen may flatter it."""
        return max(0.0, self.accuracy - self.corrected)

    @property
    def words(self) -> str:
        """The bias in a sentence."""
        size = f"about {100 * self.bias:.1f} points or more" if self.bias >= LEAST_BIAS else "less than 0.1 points"
        chosen = f"Chosen as the best of {self.models} models on these same images, {self.model}"
        return f"{chosen} is optimistically biased by {size}."


def select_best(correct: Correct) -> Selection:
    """The most accurate model; `correct` maps a model's name to [images]."""
    names, right = list(correct), np.stack(list(correct.values()))
    accuracy = right.mean(axis=1)
    best = int(accuracy.argmax())
    return Selection(names[best], len(names), float(accuracy[best]), corrected_best(right))


def corrected_best(right: NDArray[np.bool_]) -> float:
    """The accuracy of the best of the models [models, images], less the optimism of having been chosen.

    Optimism, by the bootstrap: how much better than on these images the best of a sample of them is on
    that sample, beyond what the sample does to the best of all. Efron and Tibshirani (1993), chapter 17.
    """
    images, accuracy = right.shape[1], right.mean(axis=1)
    moved = _resamples(images) @ right.T / images - accuracy  # [DRAWS, models]
    chosen = (accuracy + moved).argmax(axis=1)
    optimism = moved[np.arange(DRAWS), chosen] - moved[:, accuracy.argmax()]
    return float(accuracy.max() - optimism.mean())


@lru_cache(maxsize=1)
def _resamples(images: int) -> NDArray[np.int64]:
    """How often each image is in each sample of the bootstrap: [DRAWS, images]."""
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
