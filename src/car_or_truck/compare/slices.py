"""Where the variants are weak: their accuracy on every slice, and sentences on the drops that are significant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from car_or_truck.cells.results import Result
from car_or_truck.evaluate import slices
from car_or_truck.evaluate.corruptions import CORRUPTIONS
from car_or_truck.evaluate.scores import ALPHA, holm

MOST = 4  # drops in a sentence
TERMS = {  # by slice: a preposition, and what people call it
    "dark": ("on", "dark pictures"),
    "bright": ("on", "bright pictures"),
    "low_contrast": ("at", "low contrast"),
    "high_contrast": ("at", "high contrast"),
    "less_letterbox": ("with", "little letterbox"),
    "more_letterbox": ("with", "much letterbox"),
    "cold": ("in", "cold colours"),
    "warm": ("in", "warm colours"),
}
for _name in CORRUPTIONS:
    _noun = "compression" if _name == "jpeg" else _name
    TERMS |= {f"{_name}_1": ("under", f"mild {_noun}"), f"{_name}_2": ("under", f"strong {_noun}")}


def conclude(results: Sequence[Result], classes: Sequence[str]) -> dict[str, Any]:
    """The key `slices` of comparison.json; both lists are empty where no model was evaluated on slices."""
    table = compare_slices(results, classes)
    words = [sentence(rows) for _, rows in table.groupby("variant", sort=False)] if len(table) else []
    return {"sentences": words, "table": table.to_dict("records")}


def compare_slices(results: Sequence[Result], classes: Sequence[str]) -> pd.DataFrame:
    """A row for each slice of each variant over its seeds: Slice, its label, p_corrected, whether it is significant.

    Holm's correction is for all rows. Left out are models that collapsed to one answer, whose slices
    differ in nothing but their classes, and models whose corrupted.csv has other images or columns than the first.
    """
    sliced = [result for result in results if len(result.corrupted) and not result.scores["collapsed"]]
    if not sliced:
        return pd.DataFrame()
    first = sliced[0]
    inside = slices.members(slices.read_measures(first.predictions["name"]), first.labels, classes)
    labels = dict(zip(slices.class_slices(classes), classes, strict=True))
    labels |= {name: label for name, (_, label) in TERMS.items()}
    by_variant: dict[str, list[Result]] = {}
    for result in sliced:
        same_images = result.corrupted["name"].equals(first.corrupted["name"])
        if same_images and result.corrupted.columns.equals(first.corrupted.columns):
            by_variant.setdefault(result.variant, []).append(result)
    table = pd.DataFrame(
        {"variant": variant, "seeds": len(models), **asdict(item), "label": labels[item.slice]}
        for variant, models in by_variant.items()
        for item in slices.all_slices(
            [model.predictions for model in models], [model.corrupted for model in models], inside
        )
    )
    p_corrected = holm(table["p"])
    return table.assign(p_corrected=p_corrected, significant=p_corrected < ALPHA)


def sentence(rows: pd.DataFrame) -> str:
    """A variant's significant drops, the largest first; of a corruption's two strengths, the one that costs more."""
    variant, seeds = rows["variant"].iloc[0], rows["seeds"].iloc[0]
    name = f"{variant} ({seeds} seeds)" if seeds > 1 else variant
    losses = rows[rows["significant"] & (rows["drop"] > 0)].sort_values("drop", ascending=False, kind="stable")
    losses = losses[~losses["slice"].str.removesuffix("_1").str.removesuffix("_2").duplicated()]
    if losses.empty:
        return f"{name} is not significantly weaker on any of the {len(rows)} slices."
    parts = [
        f"{100 * row.drop:.1f}{' points' * (place == 0)} {TERMS.get(row.slice, ('on',))[0]} {row.label}"
        for place, row in enumerate(losses.head(MOST).itertuples())
    ]
    if len(losses) > MOST:
        parts.append(f"less on {len(losses) - MOST} more slice{'s' * (len(losses) > MOST + 1)}")
    return f"{name} loses {' and '.join([', '.join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)}."
