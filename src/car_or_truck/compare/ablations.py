"""Which variants differ in one thing alone, and what that one change did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from car_or_truck.train.recipe import Block, Recipe


def one_change(recipe: Recipe, other: Recipe) -> tuple[str, str, str] | None:
    """(key, its value in `recipe`, its value in `other`) where they differ in that key alone; else None.

    A list of blocks counts as one key, as does the list of a head's units.
    """
    one, two = (_flat(item.model_dump()) for item in (recipe, other))
    keys = [key for key in one | two if one.get(key) != two.get(key)]
    if len(keys) != 1:
        return None
    return keys[0], _shown(keys[0], one.get(keys[0])), _shown(keys[0], two.get(keys[0]))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(key: str, value: Any) -> str:
    if key == "blocks":
        blocks = [Block.model_validate(block) for block in value]
        return " ".join(f"{block.filters}" + f"x{block.convs}" * (block.convs > 1) for block in blocks)
    return str(value)


def sentences(
    table: pd.DataFrame, variants: dict[str, Recipe], intervals: Mapping[tuple[str, str], Sequence[float]] | None = None
) -> list[str]:
    """One sentence for each pair of the table's variants that differ in one thing alone, over the seeds of both.

    `intervals` gives those of the second's accuracy minus the first's, in points, where all their seeds are the same.
    """
    found = []
    present = [name for name in variants if name in set(table["variant"])]
    for base, heir in combinations(present, 2):
        change = one_change(variants[base], variants[heir])
        both = [table[table["variant"] == name].set_index("seed") for name in (base, heir)]
        seeds = both[0].index.intersection(both[1].index)
        if change is None or seeds.empty:
            continue
        moved = {
            name: 100 * (both[1].loc[seeds, column] - both[0].loc[seeds, column]).mean()
            for name, column in (("accuracy", "val_binary_accuracy"), ("gap", "generalization_gap"))
        }
        key, before, after = change
        known = (intervals or {}).get((base, heir)) if len(seeds) == len(both[0]) == len(both[1]) else None
        interval = f" ({known[0]:.1f} to {known[1]:.1f})" if known is not None else ""
        chance = "one seed: it may be chance" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
        found.append(
            f"{heir} is {base} with {key} {after} instead of {before}: "
            f"accuracy {moved['accuracy']:+.1f} points{interval}, gap {moved['gap']:+.1f} points ({chance})."
        )
    return found
