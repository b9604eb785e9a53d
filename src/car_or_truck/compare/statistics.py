"""What can be concluded from right and wrong answers: pure functions of arrays, and nothing else.

`right` arrays are boolean, True where a model's answer to an image is right: [images] of one model,
[seeds, images] of a recipe that was trained with several seeds. Two of them are of the same images
in the same order. Shares and differences are in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests

DRAWS = 20_000  # of the bootstrap: the smallest p-value is 1e-4, which Holm's correction of 400 pairs leaves under 0.05
LEVEL = 0.95
POWER = 0.8
BINS = 10  # of a reliability diagram, and of the error that sums it up


def wilson(right: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share, `right` of `total`: (low, high).

    It knows of the number of images, not of a seed's luck. Wilson (1927), JASA 22.
    """
    interval = binomtest(right, total).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class McNemar:
    """How many images only the first or only the second model has right, and the two-sided p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar_exact(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """The exact McNemar test of two models on the same images, [images] each.

    The images on which just one is right are tosses of a fair coin if the two are equally good.
    p is 1 where there is none. McNemar (1947), Psychometrika 12.
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a, only_b, float(p))


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first minus that of the second, its 95 % interval, and what that says."""

    difference: float
    low: float
    high: float
    probability: float  # that the first is better, given these answers and no opinion beforehand
    p: float  # two-sided, of no difference


def paired_difference(
    right_a: ArrayLike, right_b: ArrayLike, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Difference:
    """How much better the first is than the second: [seeds, images] each, or [images]; seeds may differ in number.

    The images are resampled together for both (a paired bootstrap). What another set of seeds would
    change is added to each draw: a Student's t with the spread between seeds, pooled over both
    recipes, because resampling itself is much too narrow for two or three seeds. Where both have one
    seed alone nothing is known of the seeds: the interval is then of these two models, not of their
    recipes. Deterministic: `seed` is of the resampling.
    """
    a, b = _by_seed(right_a), _by_seed(right_b)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    error, freedom = seed_error(a, b)
    random = np.random.default_rng(seed)
    # Drawing images with replacement is drawing how often each value of the difference comes.
    values, counts = np.unique(per_image.round(12), return_counts=True)
    drawn = random.multinomial(per_image.size, counts / per_image.size, draws) @ values / per_image.size
    if freedom:
        drawn = drawn + error * random.standard_t(freedom, draws)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    above, below = float((drawn > 1e-12).sum()), float((drawn < -1e-12).sum())
    ties = draws - above - below
    return Difference(
        difference=float(per_image.mean()),
        low=float(low),
        high=float(high),
        probability=(above + ties / 2) / draws,
        p=min(1.0, 2 * (min(above, below) + ties + 1) / (draws + 1)),
    )


def seed_error(right_a: ArrayLike, right_b: ArrayLike) -> tuple[float, int]:
    """The standard error that the choice of seeds leaves in the difference, and its degrees of freedom.

    The accuracies' variance between seeds is pooled over both recipes, [seeds, images] each. (0, 0)
    where both have one seed.
    """
    accuracies = [_by_seed(right).mean(axis=1) for right in (right_a, right_b)]
    freedom = sum(len(values) - 1 for values in accuracies)
    if not freedom:
        return 0.0, 0
    variance = sum(((values - values.mean()) ** 2).sum() for values in accuracies) / freedom
    return float(np.sqrt(variance * sum(1 / len(values) for values in accuracies))), freedom


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values [tests] corrected for their number, so that one false alarm in all has 5 %. Holm (1979)."""
    p = np.asarray(p_values, float)
    return np.asarray(multipletests(p, method="holm")[1], float) if p.size else p


def images_needed(right_a: ArrayLike, right_b: ArrayLike, level: float = LEVEL, power: float = POWER) -> int | None:
    """About how many images in all would tell the two apart, were their true difference the one found.

    The sample size of a paired z-test with that power; the seeds' error is kept as it is. None where
    no number of images would do: no difference was found, or the seeds leave more doubt than that.
    """
    a, b = _by_seed(right_a), _by_seed(right_b)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    room = _tolerated(per_image.mean(), level, power) - seed_error(a, b)[0] ** 2
    return int(np.ceil(per_image.var() / room)) if room > 0 else None


def seeds_needed(right_a: ArrayLike, right_b: ArrayLike, level: float = LEVEL, power: float = POWER) -> int | None:
    """About how many seeds of each recipe would tell the two apart on these images; None where no number would do.

    As `images_needed`, with the images' error kept as it is; None also where both have one seed alone.
    """
    a, b = _by_seed(right_a), _by_seed(right_b)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    error, freedom = seed_error(a, b)
    room = _tolerated(per_image.mean(), level, power) - per_image.var() / per_image.size
    if room <= 0 or not freedom:
        return None
    one_each = error**2 / (1 / len(a) + 1 / len(b)) * 2  # the squared error with a single seed of each
    return max(1, int(np.ceil(one_each / room)))


def _tolerated(difference: float, level: float, power: float) -> float:
    """The squared standard error with which a difference is told from none."""
    return float((difference / (norm.ppf((1 + level) / 2) + norm.ppf(power))) ** 2)


def _by_seed(right: ArrayLike) -> NDArray[np.bool_]:
    return np.atleast_2d(np.asarray(right, bool))


def expected_calibration_error(labels: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """How far the stated probability of label 1 is from its frequency, on average over the images: 0..1.

    `labels` and `probability` [images]; bins of equal width, as in a reliability diagram. Naeini et
    al. (2015), AAAI; the binary form, of the second class's probability.
    """
    truth, stated = np.asarray(labels, float), np.asarray(probability, float)
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], stated)
    gaps = np.bincount(place, truth, bins) - np.bincount(place, stated, bins)  # a bin's mean gap times its images
    return float(np.abs(gaps).sum() / truth.size)


def best_threshold(labels: ArrayLike, probability: ArrayLike) -> float:
    """The threshold above which label 1 is the answer with the highest accuracy; of several, the nearest to 0.5.

    `labels` and `probability` [images]. It lies midway between two stated probabilities, or is 0.5
    where that is as good.
    """
    truth, stated = np.asarray(labels, bool), np.asarray(probability, float)
    ends = np.concatenate([[0.0], np.unique(stated), [1.0]])
    candidates = np.unique(np.append((ends[1:] + ends[:-1]) / 2, 0.5))
    negatives, positives = np.sort(stated[~truth]), np.sort(stated[truth])
    right = np.searchsorted(negatives, candidates, "right") - np.searchsorted(positives, candidates, "right")
    best = candidates[right == right.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def smoothed_onset(val_loss: ArrayLike, window: int = 5) -> int:
    """The epoch (from 1) from which the validation loss rose for good, noise apart.

    It is where the running median over `window` epochs (fewer at either end, at least half) was
    lowest; the middle one of the epochs that share that median. One epoch that falls out of the row
    hardly moves a median.
    """
    losses: NDArray[np.float64] = np.asarray(val_loss, float)
    reach = window // 2
    medians = np.array([np.median(losses[max(0, at - reach) : at + reach + 1]) for at in range(losses.size)])
    lowest = np.flatnonzero(medians == medians.min())
    return int(lowest[(lowest.size - 1) // 2]) + 1


def pareto_front(cost: ArrayLike, quality: ArrayLike) -> NDArray[np.bool_]:
    """Which of the points [n] no other one beats: none costs less and is as good, none is better and costs no more."""
    spent, got = np.asarray(cost, float), np.asarray(quality, float)
    no_worse = (spent[:, None] <= spent) & (got[:, None] >= got)  # [other, point]
    better = (spent[:, None] < spent) | (got[:, None] > got)
    return np.asarray(~(no_worse & better).any(axis=0))
