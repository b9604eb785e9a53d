"""Which is better: every pair of models and of variants, in words that say no more than the numbers allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from car_or_truck.compare import statistics
from car_or_truck.compare.statistics import Difference
from car_or_truck.evaluate.scores import ALPHA, holm, mcnemar_exact, wilson

Correct = Mapping[str, NDArray[np.bool_]]  # by name, whether each prediction is correct
MOST_IMAGES, MOST_SEEDS = 1_000_000, 100  # beyond which a needed number is not worth stating
ONE_SEED = "One seed each: this ranks these trained models, not their recipes. Another seed could change the order."


@dataclass(frozen=True)
class ModelPair:
    """Two trained models on the same images: McNemar's exact test, after Holm's correction for all pairs."""

    first: str  # at least as accurate
    second: str
    difference: float
    only_first: int  # images that only the first predicts correctly
    only_second: int
    p: float
    p_corrected: float


@dataclass(frozen=True)
class RecipePair:
    """Two variants over all their seeds, the better first."""

    first: str
    second: str
    estimate: Difference
    p_corrected: float
    seeds: tuple[int, int]  # of the first and the second; with one each it compares two trained models
    images: int
    more_images: int | None  # for a significant difference; None: no number would do
    more_seeds: int | None  # likewise, of each

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after the correction for all pairs."""
        return self.p_corrected < ALPHA

    @property
    def interval(self) -> str:
        """The 95% CI in points, and which of both has a single seed, so that its spread can only be guessed."""
        single = [name for name, seeds in zip((self.first, self.second), self.seeds, strict=True) if seeds == 1]
        note = ("", f"; one seed of {''.join(single)}", "; one seed each")[len(single)]
        return f"95% CI {100 * self.estimate.low:z.1f} to {100 * self.estimate.high:z.1f}{note}"

    @property
    def extent(self) -> str:
        """The difference in points."""
        points = 100 * self.estimate.difference
        return f"{points:.1f}" if points >= 0.05 else "less than 0.1"

    @property
    def words(self) -> str:
        """The pair in a sentence."""
        if self.significant:
            return f"{self.first} beats {self.second} by {self.extent} points ({self.interval})."
        lead = f"both are equally accurate ({self.interval})"
        if self.estimate.difference:
            lead = f"{self.first} leads by {self.extent} points ({self.interval}){self._needed}"
        return f"{self.first} and {self.second} do not differ significantly on these {self.images:,} images: {lead}."

    @property
    def _needed(self) -> str:
        """What it would take."""
        if self.more_images is not None and self.more_images < MOST_IMAGES:
            return f"; about {_rounded(self.more_images)} more images would be needed"
        if self.more_seeds is not None:
            count = f"about {self.more_seeds}" if self.more_seeds <= MOST_SEEDS else f"more than {MOST_SEEDS}"
            return f"; {count} seeds of each would be needed"
        if max(self.seeds) > 1:
            return "; more images and more seeds would be needed"
        if self.more_images is None:  # so many would do for a z-test, but the exact test has too few to count
            return "; a few more images would be needed"
        return f"; more than {MOST_IMAGES:,} images would be needed"


def _rounded(count: int) -> str:
    """Rounded up to two digits: more would pretend to precision."""
    digits = max(0, len(str(count)) - 2)
    return f"{-(-count // 10**digits) * 10**digits:,}"


def compare_models(correct: Correct) -> list[ModelPair]:
    """Every pair of models, the most accurate first; `correct` maps a model's name to [images]."""
    pairs = _ranked_pairs(correct)
    tests = [mcnemar_exact(correct[first], correct[second]) for first, second in pairs]
    corrected = holm([test.p for test in tests])
    return [
        ModelPair(
            first, second, float(correct[first].mean() - correct[second].mean()), **asdict(test), p_corrected=float(p)
        )
        for (first, second), test, p in zip(pairs, tests, corrected, strict=True)
    ]


def compare_recipes(correct: Correct) -> list[RecipePair]:
    """Every pair of variants, the most accurate first; `correct` maps a variant to [seeds, images]."""
    names = _ranked_pairs(correct)
    answers = [(correct[first], correct[second]) for first, second in names]
    draws = max(statistics.DRAWS, 40 * len(names))  # so that the smallest p survives the correction
    estimates = [statistics.paired_difference(*both, draws=draws) for both in answers]
    corrected = corrected_in_order(names, [estimate.p for estimate in estimates])
    level = 1 - ALPHA / max(1, len(names))  # what is needed must survive the correction too
    pairs = []
    for (first, second), both, estimate, p in zip(names, answers, estimates, corrected, strict=True):
        seeds, images = (len(both[0]), len(both[1])), both[0].shape[-1]
        needed, more_seeds = statistics.images_needed(*both, level), statistics.seeds_needed(*both, level)
        # Where so many images or seeds should do already, these were unlucky: at least one seed more.
        more_images = needed - images if needed is not None and needed > images else None
        more_seeds = max(more_seeds, min(seeds) + 1) if more_seeds is not None else None
        pairs.append(RecipePair(first, second, estimate, float(p), seeds, images, more_images, more_seeds))
    return pairs


def corrected_in_order(pairs: Sequence[tuple[str, str]], p_values: Sequence[float]) -> list[float]:
    """p after Holm's correction for all `pairs`, each of a better and a worse variant.

    What beats a second that beats a third beats the third, too: where both are right, that needs no correction.
    """
    raw = dict(zip(pairs, p_values, strict=True))
    corrected = dict(zip(pairs, map(float, holm(p_values)), strict=True))
    ranked = list(dict.fromkeys(name for pair in pairs for name in pair))
    for steps in range(2, len(ranked)):
        for first, *between, last in (ranked[at : at + steps + 1] for at in range(len(ranked) - steps)):
            chain = min(max(corrected[first, middle], corrected[middle, last]) for middle in between)
            corrected[first, last] = min(corrected[first, last], max(raw[first, last], chain))
    return [corrected[pair] for pair in pairs]


def _ranked_pairs(correct: Correct) -> list[tuple[str, str]]:
    return list(combinations(sorted(correct, key=lambda name: -correct[name].mean()), 2))


def headline(correct: Correct, pairs: list[RecipePair], majority: tuple[str, float]) -> list[str]:
    """The verdict, most important first; `majority` is the most frequent class and its share."""
    ranked = sorted(correct, key=lambda name: -correct[name].mean())
    best = ranked[0]
    seeds, images = correct[best].shape
    accuracy = f"{100 * correct[best].mean():.1f}% accuracy on {images:,} validation images"
    if seeds > 1:
        accuracy += f" (mean of {seeds} seeds)"
    tied = [name for name in ranked if correct[name].mean() == correct[best].mean()]
    rivals = [pair.second for pair in pairs if pair.first in tied and not pair.significant]
    behind = [name for name in dict.fromkeys(rivals) if name not in tied]
    unsure = f", but not significantly ahead of {listed(behind)}" if behind else ""
    if len(ranked) == 1:
        line = f"{best} is the only variant compared: {accuracy}."
    elif len(tied) > 1:
        line = f"{listed(tied)} are equally accurate: {accuracy}{unsure}."
    elif not rivals:
        nearest = pairs[0]  # they are ranked
        lead = f"{nearest.extent} points ahead of {nearest.second}"
        runner_up = ", the runner-up" if len(ranked) > 2 else ""
        line = f"{best} wins: {accuracy}, {lead}{runner_up} ({nearest.interval})."
    else:
        line = f"{best} leads with {accuracy}{unsure}."
    constant, share = majority
    if wilson(round(correct[best].mean() * images), images)[0] <= share:
        subject = "It is" if len(tied) == 1 else "They are"
        line += f" {subject} not significantly better than always answering {constant} ({100 * share:.1f}%)."
    single = len(ranked) > 1 and pairs[0].seeds == (1, 1)
    return [line, ONE_SEED] if single else [line]


def listed(names: list[str], most: int = 4) -> str:
    """The names in words, the last of many as their number."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
