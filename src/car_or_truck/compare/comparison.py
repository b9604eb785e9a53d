"""What is compared, and what follows from it, as tables and sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from car_or_truck import drawing
from car_or_truck.cells.cell import Cell, Dataset
from car_or_truck.cells.results import Missing, Result
from car_or_truck.compare import ablations, luck, overfitting, slices, statistics, suspects, verdict
from car_or_truck.compare.ablations import Intervals
from car_or_truck.compare.luck import SeedSpread
from car_or_truck.compare.overfitting import Overfitting
from car_or_truck.compare.verdict import RecipePair
from car_or_truck.train.recipe import Recipe

MOST_MISSING = 5  # models that the verdict names


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what follows from it."""

    results: Sequence[Result]
    missing: Sequence[Missing]
    table: pd.DataFrame  # comparison.csv
    curves: pd.DataFrame  # curves.csv
    summary: dict[str, Any]  # comparison.json
    pairs: Sequence[RecipePair]
    suspects: pd.DataFrame  # suspects.csv

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each variant, the missing ones included: one on every surface."""
        return drawing.variant_colours(
            [*(result.variant for result in self.results), *(item.variant for item in self.missing)]
        )

    @classmethod
    def from_results(cls, results: Sequence[Result], missing: Sequence[Missing], dataset: Dataset) -> Comparison:
        """Compare the results; `missing` is shown as missing."""
        table = tabulate(results, missing)
        summary, pairs = conclude(results, missing, dataset, table)
        best, suspected = suspects.best_seeds(results), suspects.find_suspects(results, dataset.classes)
        summary["suspects"] = {
            "variant": best[0].variant,
            "seeds": len(best),
            "collapsed": suspects.have_collapsed(best),
            "count": len(suspected),
            "names": list(suspected["name"]),
        }
        summary["cells"] = json.loads(table.to_json(orient="records", double_precision=15))
        return cls(results, missing, table, _curves(results), summary, pairs, suspected)


def conclude(
    results: Sequence[Result], missing: Sequence[Missing], dataset: Dataset, table: pd.DataFrame
) -> tuple[dict[str, Any], list[RecipePair]]:
    """comparison.json without the models' own scores, which are in `table`, and the pairs of variants."""
    by_variant: dict[str, list[Result]] = {}
    for result in results:
        by_variant.setdefault(result.variant, []).append(result)
    recipes = {variant: _explicit(cells[0].cell) for variant, cells in by_variant.items()}
    correct = {variant: np.stack([result.correct for result in cells]) for variant, cells in by_variant.items()}
    pairs = verdict.compare_recipes(correct)
    by_model = {result.name: result.correct for result in results}
    lines, selection = verdict.headline(correct, pairs, dataset.majority), luck.select_best(by_model)
    if selection.bias >= luck.LEAST_BIAS:
        lines.append(selection.words)
    selected = sorted(variant for variant, recipe in recipes.items() if recipe.keep == "best")
    if selected:
        lines.append(f"Optimistically biased, because the weights were selected on validation: {', '.join(selected)}.")
    by_precision: dict[str, list[str]] = {}
    for variant, cells in by_variant.items():
        by_precision.setdefault(" and ".join(sorted({each.cell.precision for each in cells})), []).append(variant)
    if len({result.cell.precision for result in results}) > 1:
        groups = "; ".join(f"{', '.join(names)} with {precision}" for precision, names in by_precision.items())
        lines.append(f"Part of a difference may be due to the precision: {groups}.")
    lines += [f"{item.name} is missing: it {item.why}." for item in missing[:MOST_MISSING]]
    if (more := len(missing) - MOST_MISSING) > 0:
        lines.append(f"{more} more model{'s are' if more > 1 else ' is'} missing; the table shows which.")
    compared = table[table["status"] == "compared"]
    intervals: Intervals = {}
    for pair in pairs:
        low, high = 100 * pair.estimate.low, 100 * pair.estimate.high
        intervals |= {(pair.second, pair.first): (low, high), (pair.first, pair.second): (-high, -low)}
    cases = {variant: list(map(Overfitting.from_result, cells)) for variant, cells in by_variant.items()}
    gaps = overfitting.widest_gaps(cases)
    widest_first = dict.fromkeys([*(item.variant for item in gaps), *cases])
    summary = {
        "data": dataset.model_dump(mode="json", include={"source", "stand_in", "digest", "counts"}),
        "verdict": lines,
        "pairs": [_pair(pair) for pair in pairs],
        "models": list(map(asdict, verdict.compare_models(by_model))),
        "overfits": overfitting.verdict(gaps),
        "gaps": list(map(asdict, gaps)),
        "overfitting": [overfitting.sentence(variant, cases[variant]) for variant in widest_first],
        "selection": {**asdict(selection), "bias": selection.bias, "words": selection.words},
        "seeds": [_seeds(spread, by_variant[spread.variant]) for spread in luck.seed_spreads(correct)],
        "changes": [
            line
            for names in by_precision.values()
            for line in ablations.sentences(compared, {name: recipes[name] for name in names}, intervals)
        ],
        "slices": slices.conclude(results, dataset.classes),
        "missing": [asdict(item) for item in missing],
        "trained": {result.name: result.cell.fingerprint for result in results},
    }
    return summary, pairs


def _explicit(cell: Cell) -> Recipe:
    """The cell's recipe with the image size that it takes from the data."""
    return cell.recipe.model_copy(update={"image_size": cell.recipe.side(cell.data.image_size)})


def _seeds(spread: SeedSpread, results: Sequence[Result]) -> dict[str, Any]:
    facts, words = {**asdict(spread), "excessive": spread.excessive}, spread.words
    if len(results) > 1:
        average = luck.average_seeds(results[0].labels, np.stack([result.probability for result in results]))
        facts, words = {**facts, "average": asdict(average)}, f"{words} {average.words}"
    return {**facts, "words": words}


def _pair(pair: RecipePair) -> dict[str, Any]:
    facts = asdict(pair)
    estimate = facts.pop("estimate")
    del facts["images"]
    return {**facts, **estimate, "significant": pair.significant, "words": pair.words}


def _curves(results: Sequence[Result]) -> pd.DataFrame:
    """Every epoch of every model; `gap` is the accuracy on train minus that on validation, as logged in training."""
    tables = []
    for result in results:
        gap = result.history["binary_accuracy"] - result.history["val_binary_accuracy"]
        names = {"cell": result.name, "variant": result.variant, "seed": result.seed}
        tables.append(result.history.assign(gap=gap, **names)[[*names, *result.history.columns, "gap"]])
    return pd.concat(tables, ignore_index=True)


def tabulate(results: Sequence[Result], missing: Sequence[Missing] = ()) -> pd.DataFrame:
    """comparison.csv: one row per model, the most accurate first, missing ones last."""
    rows = []
    for result in results:
        scores = {name: value for name, value in result.scores.items() if isinstance(value, int | float)}
        interval = {"interval_low": scores.pop("val_accuracy_low"), "interval_high": scores.pop("val_accuracy_high")}
        names = {"variant": result.variant, "seed": result.seed}
        words = {"grade": Overfitting.from_result(result).grade, "keep": result.cell.recipe.keep, "status": "compared"}
        rows.append({**names, **scores, **interval, **words})
    table = pd.DataFrame(rows).sort_values("val_binary_accuracy", ascending=False, kind="stable", ignore_index=True)
    front = statistics.pareto_front(table["multiply_adds"], table["val_binary_accuracy"])
    table.insert(table.columns.get_loc("grade"), "pareto", front)
    if missing:
        missing_rows = [{"variant": item.variant, "seed": item.seed, "status": item.why} for item in missing]
        table = pd.concat([table, pd.DataFrame(missing_rows)], ignore_index=True)
    whole = [name for name, value in rows[0].items() if isinstance(value, int) and not isinstance(value, bool)]
    return table.astype(dict.fromkeys(whole, "Int64"))
