"""Which variants differ in a single setting, and what that setting does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd

from car_or_truck.cells.names import block_text, flat
from car_or_truck.train.recipe import Block, Recipe

# By pair of variants, both ways round: the 95% CI of the second's accuracy minus the first's, in points
Intervals = dict[tuple[str, str], tuple[float, float]]


def single_change(recipe: Recipe, other: Recipe) -> str | None:
    """How `other` differs from `recipe` if that is in one setting alone, else None.

    Of the blocks, one setting is one number of one block, or one block more or less.
    """
    before, after = flat(recipe, defaults=True), flat(other, defaults=True)
    if (recipe.early_stopping is None) != (other.early_stopping is None):  # its two keys are one setting then
        for values in (before, after):
            inner = {key: values.pop(key) for key in list(values) if key.startswith("early_stopping.")}
            values["early_stopping"] = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in inner.items())
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    if len(keys) != 1:
        return None
    if keys == ["blocks"]:
        return _block_change(recipe.blocks, other.blocks)
    return _instead(keys[0], after.get(keys[0]), before.get(keys[0]))


def _block_change(before: Sequence[Block], after: Sequence[Block]) -> str | None:
    if len(before) == len(after):  # by place: a block that becomes like its neighbour is not one more and one less
        places = [place for place, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        if len(places) != 1:
            return None
        old, new = before[places[0]], after[places[0]]
        keys = [key for key in Block.model_fields if getattr(new, key) != getattr(old, key)]
        values = [getattr(block, keys[0]) for block in (new, old)]
        return f"{_instead(keys[0], *values)} in block {places[0] + 1}" if len(keys) == 1 else None
    more = len(after) > len(before)
    shorter, longer = (before, after) if more else (after, before)
    for place, block in enumerate(longer):
        if [*longer[:place], *longer[place + 1 :]] == list(shorter):
            return f"one more block ({block_text(block)})" if more else f"one block less ({block_text(block)})"
    return None


def _instead(key: str, *values: object) -> str:
    return f"{key} {' instead of '.join('none' if value in (None, '') else str(value) for value in values)}"


def sentences(table: pd.DataFrame, variants: Mapping[str, Recipe], intervals: Intervals) -> list[str]:
    """A sentence for each pair of the table's variants that differ in a single setting, over the seeds of both.

    `table` has the columns variant, seed, val_binary_accuracy and generalization_gap; `intervals`
    are over all seeds.
    """
    lines = []
    for base, heir in combinations(variants, 2):
        change = single_change(variants[base], variants[heir])
        first, second = (table[table["variant"] == name].set_index("seed") for name in (base, heir))
        seeds = first.index.intersection(second.index)
        if change is None or seeds.empty:
            continue
        accuracy, gap = (
            100 * (second.loc[seeds, column] - first.loc[seeds, column]).mean()
            for column in ("val_binary_accuracy", "generalization_gap")
        )
        interval = ""
        if (base, heir) in intervals and len(seeds) == len(first) == len(second):
            interval = " (95% CI {:+z.1f} to {:+z.1f})".format(*intervals[base, heir])
        extent = (
            f"of seed {seeds[0]} alone: it may be chance" if len(seeds) == 1 else f"mean of {len(seeds)} shared seeds"
        )
        lines.append(
            f"{heir} is {base} with {change}: accuracy {accuracy:+z.1f} points{interval}, gap {gap:+z.1f} points "
            f"({extent})."
        )
    return lines
