"""What can be concluded from correct and wrong predictions: pure functions of arrays, and nothing else.

`right` arrays are boolean, True where a model's prediction is correct: [images] for one model,
[seeds, images] for a variant trained with several seeds. Two of them are of the same images in the
same order. Shares and differences are in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests

from car_or_truck.evaluate.scores import LEVEL

DRAWS = 20_000  # of the bootstrap: the smallest p-value is 1e-4, below 0.05 after Holm's correction of 400 pairs
POWER = 0.8


@dataclass(frozen=True)
class McNemar:
    """How many images only the first or only the second model predicts correctly, and the two-sided p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar_exact(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """The exact McNemar test of two models on the same images, [images] each.

    If both are equally good, the images that just one predicts correctly are tosses of a fair coin.
    p is 1 if there are none. McNemar (1947), Psychometrika 12.
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return McNemar(only_a, only_b, float(p))


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first minus that of the second, with its confidence interval."""

    difference: float
    low: float
    high: float
    probability: float  # that the first is better, given these predictions and a flat prior
    p: float  # two-sided, for no difference


def paired_difference(right_a: ArrayLike, right_b: ArrayLike, draws: int = DRAWS) -> Difference:
    """How much better the first is than the second: [seeds, images] each, or [images]; seeds may differ in number.

    The images are resampled together for both (a paired bootstrap). The effect of other seeds is added
    to each draw, as Student's t with the variance between seeds, pooled over both variants, because
    resampling two or three seeds is much too narrow. With one seed each, the seed variance is unknown:
    the interval is then that of two models, not of their recipes.
    """
    a, b = _by_seed(right_a), _by_seed(right_b)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    error, freedom = seed_error(a, b)
    random = np.random.default_rng(0)
    # Drawing images with replacement means drawing how often each value of the difference occurs.
    values, counts = np.unique(per_image.round(12), return_counts=True)
    drawn = random.multinomial(per_image.size, counts / per_image.size, draws) @ values / per_image.size
    if freedom:
        drawn = drawn + error * random.standard_t(freedom, draws)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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
    """The standard error of the difference due to the choice of seeds, and its degrees of freedom.

    The variance of the accuracies between seeds is pooled over both variants, [seeds, images] each.
    (0, 0) if both have one seed.
    """
    accuracies = [_by_seed(right).mean(axis=1) for right in (right_a, right_b)]
    freedom = sum(len(values) - 1 for values in accuracies)
    if not freedom:
        return 0.0, 0
    variance = sum(((values - values.mean()) ** 2).sum() for values in accuracies) / freedom
    return float(np.sqrt(variance * sum(1 / len(values) for values in accuracies))), freedom


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values [tests] corrected for their number: below 0.05, the chance of any false positive is 5%. Holm (1979)."""
    p = np.asarray(p_values, float)
    return np.asarray(multipletests(p, method="holm")[1], float) if p.size else p


def images_needed(right_a: ArrayLike, right_b: ArrayLike, level: float = LEVEL) -> int | None:
    """About how many images in all would make the difference significant, were the observed one true.

    The sample size of a paired z-test with a power of 80%, at the present seed variance. None if no number
    of images would do: the difference is zero, or seed variance alone hides it.
    """
    per_image = _by_seed(right_a).mean(axis=0) - _by_seed(right_b).mean(axis=0)
    room = _tolerated(per_image.mean(), level) - seed_error(right_a, right_b)[0] ** 2
    return int(np.ceil(per_image.var() / room)) if room > 0 else None


def seeds_needed(right_a: ArrayLike, right_b: ArrayLike, level: float = LEVEL) -> int | None:
    """About how many seeds of each would make the difference significant on these images.

    As `images_needed`, at the present number of images. None if no number would do, or if both have one seed.
    """
    a, b = _by_seed(right_a), _by_seed(right_b)
    per_image = a.mean(axis=0) - b.mean(axis=0)
    error, freedom = seed_error(a, b)
    room = _tolerated(per_image.mean(), level) - per_image.var() / per_image.size
    if room <= 0 or not freedom:
        return None
    one_each = error**2 / (1 / len(a) + 1 / len(b)) * 2  # the squared error with a single seed of each
    return max(1, int(np.ceil(one_each / room)))


def _tolerated(difference: float, level: float) -> float:
    """The squared standard error at which a difference is just significant with a power of 80%."""
    return float((difference / (norm.ppf((1 + level) / 2) + norm.ppf(POWER))) ** 2)


def _by_seed(right: ArrayLike) -> NDArray[np.bool_]:
    return np.atleast_2d(np.asarray(right, bool))


def pareto_front(cost: ArrayLike, quality: ArrayLike) -> NDArray[np.bool_]:
    """Which of the points [n] are Pareto-optimal: no other is cheaper and as good, or better and as cheap."""
    costs, values = np.asarray(cost, float), np.asarray(quality, float)
    no_worse = (costs[:, None] <= costs) & (values[:, None] >= values)  # [other, point]
    better = (costs[:, None] < costs) | (values[:, None] > values)
    return np.asarray(~(no_worse & better).any(axis=0))
