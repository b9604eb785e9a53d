"""Stage `compare`: every cell of params.yaml side by side, from what `train` and `evaluate` wrote.

Cells are read by name, so results of variants that were dropped do not linger here; one that is
missing is shown as missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from car_or_truck import files, paths
from car_or_truck.cells import names as labels
from car_or_truck.cells.results import Judged, Missing, read
from car_or_truck.compare import ablations, dvc_plots, overfitting, report, statistics, verdict
from car_or_truck.compare import figures as comparison_figures
from car_or_truck.params import Params

MOST_MISSING = 5  # cells that the verdict names


def compare(params: Params) -> pd.DataFrame:
    """Write reports/comparison.csv, comparison.json, curves.csv, plots/ and report.html; returns the table."""
    dataset = files.read_json(paths.PREPARED / "dataset.json", "Run `dvc repro prepare`.")
    judged, missing = read(params, dataset)
    curves = _curves(judged)
    summary, pairs = conclude(judged, missing, dataset)
    # Of what was concluded, not of the time that it took: the same comparison is one run.
    digest = hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()
    paces = _paces(judged)
    table = _table(judged, missing, paces or {})
    summary["cells"] = json.loads(table.to_json(orient="records", double_precision=15))

    files.write_text(paths.REPORTS / "comparison.csv", _csv(table))
    files.write_json(paths.REPORTS / "comparison.json", summary)
    files.write_text(paths.REPORTS / "curves.csv", _csv(curves))
    with files.whole_folder(paths.REPORTS / "plots") as part:
        files.write_text(part / "roc.csv", _csv(dvc_plots.roc(judged)))
        files.write_text(part / "calibration.csv", _csv(dvc_plots.calibration(judged)))
        files.write_text(part / "confusion.csv", _csv(dvc_plots.confusion(judged, dataset["classes"])))
    page = report.render(judged, table, curves, summary, pairs, dataset)
    files.write_text(paths.REPORTS / "report.html", page)
    if paces is not None:
        _track(judged, table, curves, summary, pairs, digest)
    return table


def conclude(
    judged: list[Judged], missing: list[Missing], dataset: dict[str, Any]
) -> tuple[dict[str, Any], list[verdict.RecipePair]]:
    """What comparison.json says, but for the cells' own figures; and the pairs of variants."""
    right = {
        variant: np.stack([one.right for one in judged if one.variant == variant])
        for variant in dict.fromkeys(one.variant for one in judged)
    }
    pairs = verdict.of_recipes(right)
    models = verdict.of_models({one.name: one.right for one in judged})
    counts = dataset["counts"]["valid"]
    commonest = max(counts, key=counts.get)
    said = verdict.headline(right, pairs, counts[commonest] / sum(counts.values()), commonest)
    flattered = sorted({one.variant for one in judged if one.recipe.keep == "best"})
    if flattered:
        said.append(
            f"The weights of {', '.join(flattered)} were chosen by their accuracy on these very images, which flatters."
        )
    said += [f"{one.variant}-{one.seed} is missing here: it {one.why}." for one in missing[:MOST_MISSING]]
    if len(missing) > MOST_MISSING:
        said.append(f"{len(missing) - MOST_MISSING} more cells are missing here; the table shows which.")
    scores = pd.DataFrame([{"variant": one.variant, "seed": one.seed, **one.scores} for one in judged])
    differences = {}  # of the second's accuracy minus the first's, in points, both ways round
    for pair in pairs:
        differences[pair.second, pair.first] = (100 * pair.found.low, 100 * pair.found.high)
        differences[pair.first, pair.second] = (-100 * pair.found.high, -100 * pair.found.low)
    summary = {
        "data": {key: dataset[key] for key in ("source", "stand_in", "digest", "counts")},
        "verdict": said,
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                **asdict(pair.found),
                "p_corrected": pair.p_corrected,
                "of_recipes": pair.of_recipes,
                "certain": pair.certain,
                "more_images": pair.more_images,
                "more_seeds": pair.more_seeds,
                "words": pair.words,
            }
            for pair in pairs
        ],
        "models": [asdict(pair) for pair in models],
        "overfitting": [
            overfitting.sentence(variant, [overfits(one) for one in judged if one.variant == variant])
            for variant in right
        ],
        "changes": ablations.sentences(scores, {one.variant: one.recipe for one in judged}, differences),
        "missing": [asdict(one) for one in missing],
        "trained": {one.name: one.cell["cell"] for one in judged},
    }
    return summary, pairs


def overfits(one: Judged) -> overfitting.Overfitting:
    """How badly a cell does."""
    # The kept weights' gap is that of the last epoch only where these are the kept ones.
    last = one.scores["kept_epoch"] == one.scores["epochs"]
    gap = one.scores["kept_generalization_gap"] if last else None
    return overfitting.of_history(one.history, gap, bool(one.scores["collapsed"]))


def _curves(judged: list[Judged]) -> pd.DataFrame:
    """Every epoch of every cell; `gap` is accuracy on train minus that on valid."""
    tables = []
    for one in judged:
        table = one.history.assign(gap=one.history["binary_accuracy"] - one.history["val_binary_accuracy"])
        for place, (column, value) in enumerate((("cell", one.name), ("variant", one.variant), ("seed", one.seed))):
            table.insert(place, column, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _table(judged: list[Judged], missing: list[Missing], paces: dict[str, Any]) -> pd.DataFrame:
    """comparison.csv: a row a cell, the most accurate first, those that are missing last."""
    rows: list[dict[str, Any]] = []
    for one in judged:
        scores = dict(one.scores)
        interval = {"interval_low": scores.pop("val_accuracy_low"), "interval_high": scores.pop("val_accuracy_high")}
        pace = paces.get(one.name)
        rows.append(
            {
                "variant": one.variant,
                "seed": one.seed,
                **scores,
                **interval,
                "seconds": round(pace.seconds, 1) if pace else None,
                "images_per_second": round(pace.images_per_second, 1) if pace else None,
                "keep": one.recipe.keep,
                "status": "compared",
            }
        )
    table = pd.DataFrame(rows).sort_values("val_binary_accuracy", ascending=False, kind="stable", ignore_index=True)
    front = statistics.pareto_front(table["multiply_adds"], table["val_binary_accuracy"])
    table.insert(table.columns.get_loc("seconds"), "pareto", front)
    if missing:
        lacking = [{"variant": one.variant, "seed": one.seed, "status": one.why} for one in missing]
        table = pd.concat([table, pd.DataFrame(lacking)], ignore_index=True)
    whole = [name for name in table if isinstance(judged[0].scores.get(name), int) and name != "collapsed"]
    return table.astype(dict.fromkeys(whole, "Int64"))


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, lineterminator="\n"))


def _paces(judged: list[Judged]) -> dict[str, Any] | None:
    """How long each training took, where the tracking store knows; None, and a warning, where it cannot be asked."""
    try:
        from car_or_truck.tracking import comparison as tracking_comparison

        return {one.name: tracking_comparison.pace(one.cell) for one in judged}
    except Exception as error:  # of whatever kind: the comparison itself needs no store
        _warn(error)
        return None


def _track(
    judged: list[Judged],
    table: pd.DataFrame,
    curves: pd.DataFrame,
    summary: dict[str, Any],
    pairs: list[verdict.RecipePair],
    digest: str,
) -> None:
    """The comparison as an MLflow run; a warning where the store cannot be reached."""
    try:
        from car_or_truck.tracking import comparison as tracking_comparison

        best = table.iloc[0]
        seen = labels.tags(judged[0].cell)
        about = {key: value for key, value in seen.items() if key.startswith(("data.", "git.", "mlflow.", "dvc."))}
        about |= {"best": f"{best['variant']}-{best['seed']}", "mlflow.note.content": "\n\n".join(summary["verdict"])}
        metrics = {"compared_cells": len(judged), "highest_val_binary_accuracy": float(best["val_binary_accuracy"])}
        with TemporaryDirectory() as folder:
            drawn = report.figures(table, curves, pairs, Path(folder), ".png")
            comparison_figures.curves(curves, Path(folder) / "curves.png")
            named = [paths.REPORTS / name for name in ("report.html", "comparison.csv", "comparison.json")]
            artifacts = [*named, Path(folder) / "curves.png", *drawn.values()]
            if tracking_comparison.log(judged[0].cell, digest, about, metrics, artifacts):
                print("MLflow run comparison: FINISHED", flush=True)
    except Exception as error:
        _warn(error)


def _warn(error: Exception) -> None:
    reason = " ".join(str(error).split())[:200]
    print(f"MLflow has no run of this comparison, and tells no training times: {reason}", file=sys.stderr)
