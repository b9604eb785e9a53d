"""Which is better: every pair of models and of recipes, and words that say no more than the answers allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from car_or_truck.compare import statistics
from car_or_truck.compare.statistics import Difference

Answers = Mapping[str, NDArray[np.bool_]]
DOUBT = 0.05  # after Holm's correction
ONE_SEED = (
    "With one seed each this compares trained models, not their recipes: with another seed it may turn out otherwise."
)


@dataclass(frozen=True)
class ModelPair:
    """Two trained models on the same images: McNemar's exact test, corrected for the number of pairs by Holm."""

    first: str  # right at least as often
    second: str
    difference: float
    only_first: int  # images
    only_second: int
    p: float
    p_corrected: float


@dataclass(frozen=True)
class RecipePair:
    """Two variants over all their seeds, the better first; as `statistics.paired_difference` tells."""

    first: str
    second: str
    found: Difference
    p_corrected: float
    of_recipes: bool  # whether seeds were compared too; else it is of two trained models
    images: int
    more_images: int | None  # that would tell them apart; None: no number would
    more_seeds: int | None  # of each, in all

    @property
    def certain(self) -> bool:
        """Whether the difference is told from none, all pairs considered."""
        return self.p_corrected < DOUBT

    @property
    def interval(self) -> str:
        """In points."""
        return f"{100 * self.found.low:.1f} to {100 * self.found.high:.1f}"

    @property
    def words(self) -> str:
        """The pair in a sentence."""
        points = 100 * self.found.difference
        interval = f"({self.interval})"
        if self.certain:
            return f"{self.first} beats {self.second} by {points:.1f} points {interval}."
        if not points:
            ahead = f"they are right equally often {interval}"
        else:
            ahead = (
                f"{self.first} is {points:.1f} points ahead {interval} and better with a probability of "
                f"{chance(self.found.probability)}"
            )
        return f"{self.first} and {self.second} cannot be told apart on these {self.images} images: {ahead}{self._way}."

    @property
    def _way(self) -> str:
        if not self.found.difference:
            return ""
        if self.more_images is not None and self.more_images < 1_000_000:
            return f"; about {_rounded(self.more_images)} more images would be needed"
        if self.more_seeds is not None and self.more_seeds <= 100:
            return f"; not more images, but about {self.more_seeds} seeds of each would be needed"
        if self.of_recipes:
            return "; it would take over 100 seeds of each, or more images and seeds, to tell"
        return "; over a million more images would be needed"


def chance(probability: float) -> str:
    """A probability in per cent, never quite certain."""
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def _rounded(count: int) -> str:
    """Two digits of it: more would claim to be known."""
    digits = max(0, len(str(count)) - 2)
    return f"{-(-count // 10**digits) * 10**digits:,}"


def of_models(right: Answers) -> list[ModelPair]:
    """Every pair of models; `right` maps a model's name to [images]."""
    pairs = list(combinations(sorted(right, key=lambda name: -right[name].mean()), 2))
    tests = [statistics.mcnemar_exact(right[one], right[two]) for one, two in pairs]
    corrected = statistics.holm([test.p for test in tests])
    return [
        ModelPair(
            one,
            two,
            float(right[one].mean() - right[two].mean()),
            test.only_first,
            test.only_second,
            test.p,
            float(after),
        )
        for (one, two), test, after in zip(pairs, tests, corrected, strict=True)
    ]


def of_recipes(right: Answers) -> list[RecipePair]:
    """Every pair of variants, best first; `right` maps a variant to [seeds, images].

    Where neither has a second seed, p is McNemar's exact one.
    """
    pairs = list(combinations(sorted(right, key=lambda name: -right[name].mean()), 2))
    found = [statistics.paired_difference(right[one], right[two]) for one, two in pairs]
    seeds = [statistics.seed_error(right[one], right[two])[1] > 0 for one, two in pairs]
    p = [
        one.p if several else statistics.mcnemar_exact(right[a][0], right[b][0]).p
        for (a, b), one, several in zip(pairs, found, seeds, strict=True)
    ]
    level = 1 - DOUBT / max(1, len(pairs))  # what is needed must stand the correction too
    described = []
    for (one, two), difference, several, after in zip(pairs, found, seeds, statistics.holm(p), strict=True):
        images = right[one].shape[-1]
        needed = statistics.images_needed(right[one], right[two], level)
        described.append(
            RecipePair(
                first=one,
                second=two,
                found=difference,
                p_corrected=float(after),
                of_recipes=several,
                images=images,
                more_images=None if needed is None else max(1, needed - images),
                more_seeds=statistics.seeds_needed(right[one], right[two], level),
            )
        )
    return described


def headline(right: Answers, pairs: list[RecipePair], constant: float, constant_class: str) -> list[str]:
    """The verdict, most important first; `constant` is the share of the commonest class, `constant_class`."""
    ranked = sorted(right, key=lambda name: -right[name].mean())
    best = ranked[0]
    images = right[best].shape[-1]
    accuracy = f"{100 * right[best].mean():.1f} % of {images} valid images"
    if right[best].shape[0] > 1:
        accuracy += f" (mean of {right[best].shape[0]} seeds)"
    rivals = [pair.second for pair in pairs if pair.first == best and not pair.certain]
    if len(ranked) == 1:
        said = f"{best} alone was compared: it is right on {accuracy}."
    elif not rivals:
        nearest = min((pair for pair in pairs if pair.first == best), key=lambda pair: pair.found.difference)
        lead = f"{100 * nearest.found.difference:.1f} points ({nearest.interval})"
        others = f"{ranked[1]} by" if len(ranked) == 2 else f"each of the {len(ranked) - 1} others, by at least"
        said = f"{best} is best: it is right on {accuracy}, and beats {others} {lead}."
    else:
        said = f"{best} is ahead, right on {accuracy}, but cannot be told apart from {_listed(rivals)}."
    low = statistics.wilson(round(right[best].mean() * images), images)[0]
    if low <= constant:
        said += f" Always answering {constant_class} would be right on {100 * constant:.1f} %: that is no better."
    lines = [said]
    if len(ranked) > 1 and not any(pair.of_recipes for pair in pairs):
        lines.append(ONE_SEED)
    return lines


def _listed(names: list[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
