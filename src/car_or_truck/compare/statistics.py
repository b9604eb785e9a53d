"""What can be concluded from correct and wrong predictions: pure functions of arrays, and nothing else.

`right` arrays are boolean, True where a model's prediction is correct: [images] for one model,
[seeds, images] for a variant trained with several seeds. Two of them are of the same images in the
same order. Shares and differences are in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm, t

from car_or_truck.evaluate.reliability import Floats
from car_or_truck.evaluate.scores import ALPHA, LEVEL, mcnemar_exact

DRAWS = 20_000  # of the error of a difference: the smallest p-value is 5e-5, below 0.05 after correction for 900 pairs
PULL = (0.1, 0.9)  # how far luck alone widens an interval, and the power of p by which it narrows one
POWER = 0.8
MOST_TRIED = 1000  # seeds, in search of the number that would do


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first minus that of the second, with its confidence interval."""

    difference: float
    low: float
    high: float
    p: float  # two-sided, for no difference


def paired_difference(right_a: ArrayLike, right_b: ArrayLike, draws: int = DRAWS) -> Difference:
    """How much better the first is than the second: [seeds, images] each, or [images]; seeds may differ in number.

    Seeds are nested in recipes and crossed with images, so its variance is that of a multi-reader
    multi-case study (Obuchowski and Rockette 1995): what images add, and what seeds add, each once.
    The first is known from thousands of images, and is normal; the second is Student's t, with
    `seeds_freedom` degrees of freedom. Few seeds make that very wide where they differ no more than luck
    on these images predicts, whose variance is known too: as far as the chi-square test of
    `variance_parts` finds luck alone plausible, the quantiles move towards those of luck alone.
    benchmarks/intervals.py shows what the intervals cover, and where they cover too little; PULL is
    chosen by it. With one seed each, seed variance is unknown: the interval is then that of two models,
    not of their recipes (Bonett and Price 2012), and p is McNemar's, with which the interval is made to agree.
    """
    a, b = ensure_2d(right_a), ensure_2d(right_b)
    parts = variance_parts(a, b)
    difference = float(a.mean() - b.mean())
    if not parts.freedom:
        return _of_two_models(a[0], b[0])
    normal, student = _quantiles(draws, parts.seeds_freedom)
    error = np.sort(np.abs(normal)) * np.sqrt(parts.images + parts.luck)
    observed = np.sort(np.abs(np.sqrt(parts.images) * normal + np.sqrt(parts.seeds) * student))
    narrower, wider = PULL[0] * parts.p, parts.p ** PULL[1]
    error = observed + np.where(error > observed, narrower, wider) * (error - observed)
    half = float(np.quantile(error, LEVEL))
    p = min(1.0, (float((error >= abs(difference) - 1e-12).sum()) + 1) / (draws + 1))
    return Difference(difference, max(-1.0, difference - half), min(1.0, difference + half), p)


def _of_two_models(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Difference:
    """As if each model alone were right on one image more: without that, few images would be certainty."""
    per_image = np.append(a.astype(float) - b, [1, -1])
    middle, half = float(per_image.mean()), float(norm.ppf((1 + LEVEL) / 2) * per_image.std() / per_image.size**0.5)
    low, high, p = max(-1.0, middle - half), min(1.0, middle + half), mcnemar_exact(a, b).p
    return Difference(float(a.mean() - b.mean()), *((min(low, 0.0), max(high, 0.0)) if p >= ALPHA else (low, high)), p)


@dataclass(frozen=True)
class VarianceParts:
    """What the variance of a difference between two recipes consists of, in squared shares of 1."""

    images: float  # of the images: some suit one recipe better
    luck: float  # of each run's luck on these images: what seeds would add if they were equally good
    ratio: float  # the observed variance between seeds over luck, of both; about 1 if there is luck alone
    freedom: int  # degrees of freedom of that ratio; 0 if both have one seed, when `images` holds all
    seeds: float  # of the seeds, as observed
    seeds_freedom: float  # degrees of freedom of that
    one_each: float  # of the seeds, with a single one of each; at least their luck

    @property
    def p(self) -> float:
        """Of the chi-square test that seeds differ by luck alone."""
        return chi_square_p(self.ratio, self.freedom)


def chi_square_p(ratio: float, freedom: int) -> float:
    """The chance that a variance with so many degrees of freedom is at least `ratio` times what it should be."""
    return float(chi2.sf(freedom * ratio, freedom)) if freedom else 1.0


def variance_parts(right_a: ArrayLike, right_b: ArrayLike) -> VarianceParts:
    """The variance of the difference by its source, from a two-way analysis of variance: [seeds, images] each.

    Luck is the interaction of seeds and images. A recipe with a single seed shows none: it is taken
    from the other, in proportion to their errors, or as large where seeds truly spread. How far that
    spread exceeds luck few seeds tell badly: each recipe's ratio is averaged with that of both, which
    counts as one seed more, and their degrees of freedom are combined after Satterthwaite (1946).
    """
    recipes = [ensure_2d(right) for right in (right_a, right_b)]
    images = recipes[0].shape[1]
    per_image = recipes[0].mean(axis=0) - recipes[1].mean(axis=0)
    variance = float(per_image.var(ddof=min(1, images - 1)) / images)
    freedom = sum(len(right) - 1 for right in recipes)
    if not freedom:
        return VarianceParts(variance, 0.0, 1.0, 0, 0.0, 0.0, 0.0)
    luck = [seed_luck(right) for right in recipes]
    spread = [len(right) * float(right.mean(axis=1).var()) for right in recipes]
    for place, other in ((0, 1), (1, 0)):
        if len(recipes[place]) == 1:
            error, other_error = (1 - float(recipes[at].mean()) for at in (place, other))
            scale = error / other_error if other_error else error / (2 * images * luck[other])
            others = len(recipes[other]) - 1
            if chi_square_p(spread[other] / luck[other] / others, others) < ALPHA:
                scale = max(1.0, scale)  # its seed may be a lucky one
            luck[place] = max(_least(images), luck[other] * scale)
    counts, ratios = np.array([len(right) for right in recipes]), np.array(spread) / luck  # of k seeds, k - 1 times
    of_each = np.array(luck) / counts
    pooled = float(ratios.sum()) / freedom
    observed = np.maximum(_least(images) / counts, of_each * (pooled + ratios) / counts)
    degrees = np.where(counts > 1, np.minimum(counts, freedom), freedom)
    effective_freedom = float(observed.sum() ** 2 / (observed**2 / degrees).sum())
    return VarianceParts(
        images=max(0.0, variance - float(of_each.sum())),
        luck=float(of_each.sum()),
        ratio=pooled,
        freedom=freedom,
        seeds=float(observed.sum()),
        seeds_freedom=round(min(freedom, effective_freedom), 1),
        one_each=float((np.maximum(of_each, observed) * counts).sum()),
    )


def _least(images: int) -> float:
    """The variance of an accuracy that is known to one image: seeds with the same number may differ by that."""
    return 1 / (12 * images**2)


def seed_luck(right: NDArray[np.bool_]) -> float:
    """The variance of a seed's accuracy if all [seeds, images] are equally good: the interaction's mean square."""
    seeds, images = right.shape
    share = right.mean(axis=0)
    within = seeds * float((share * (1 - share)).sum()) - seeds * images * float(right.mean(axis=1).var())
    return float(max(_least(images), within / max(1, (seeds - 1) * (images - 1)) / images))


@cache
def _quantiles(draws: int, freedom: float) -> tuple[Floats, Floats]:
    """Evenly spaced quantiles of the normal distribution, and of Student's t in another, random order."""
    levels = (np.arange(draws) + 0.5) / draws
    student = t.ppf(levels, freedom)
    return norm.ppf(levels), np.random.default_rng(0).permutation(student)


def images_needed(right_a: ArrayLike, right_b: ArrayLike, level: float = LEVEL) -> int | None:
    """About how many images in all would make the difference significant, were the observed one true.

    The sample size of a paired z-test with a power of 80%, at the present seed variance: luck on the
    images shrinks with their number, the rest of it does not. None if no number of images would do.
    """
    a, b = ensure_2d(right_a), ensure_2d(right_b)
    parts = variance_parts(a, b)
    # Where seeds truly spread, only they tell how far, and few of them need a larger difference.
    distribution = t(parts.seeds_freedom) if parts.p < ALPHA else norm
    room = _tolerated(float(a.mean() - b.mean()), level, distribution) - max(0.0, parts.seeds - parts.luck)
    return int(np.ceil(a.shape[1] * (parts.images + parts.luck) / room)) if room > 0 else None


def seeds_needed(right_a: ArrayLike, right_b: ArrayLike, level: float = LEVEL) -> int | None:
    """About how many seeds of each would make the difference significant on these images.

    As `images_needed`, at the present number of images. None if no number would do, or if both have one seed.
    """
    a, b = ensure_2d(right_a), ensure_2d(right_b)
    parts = variance_parts(a, b)
    difference, counts = float(a.mean() - b.mean()), np.arange(2, MOST_TRIED + 1)
    if not parts.freedom or _tolerated(difference, level) <= parts.images:
        return None
    # So many seeds tell so much of how far they spread, where it is more than luck.
    distribution = t(2 * (counts - 1)) if parts.p < ALPHA else norm
    enough = parts.images + parts.one_each / counts <= _tolerated(difference, level, distribution)
    return int(counts[enough.argmax()]) if enough.any() else MOST_TRIED


def _tolerated(difference: float, level: float, distribution: Any = norm) -> Any:
    """The squared standard error at which a difference is just significant with a power of 80%."""
    return (difference / (distribution.ppf((1 + level) / 2) + norm.ppf(POWER))) ** 2


def ensure_2d(right: ArrayLike) -> NDArray[np.bool_]:
    """As [seeds, images], for one seed too."""
    return np.atleast_2d(np.asarray(right, bool))


def pareto_front(cost: ArrayLike, quality: ArrayLike) -> NDArray[np.bool_]:
    """Which of the points [n] are Pareto-optimal: no other is cheaper and as good, or better and as cheap."""
    costs, values = np.asarray(cost, float), np.asarray(quality, float)
    no_worse = (costs[:, None] <= costs) & (values[:, None] >= values)  # [other, point]
    better = (costs[:, None] < costs) | (values[:, None] > values)
    return np.asarray(~(no_worse & better).any(axis=0))
