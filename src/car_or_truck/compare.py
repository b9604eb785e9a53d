"""Stage `compare`: every cell of params.yaml side by side, from what `evaluate` wrote.

Cells are read by name, so results of variants that were dropped do not linger here.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from scipy.stats import binomtest

from car_or_truck import ablations, cells, figures, files, layout, leaderboard
from car_or_truck.params import Params
from car_or_truck.recipe import Recipe

# A cell's figures in the report; the wide ones get a line of their own.
FIGURES = ("learning_curves", "architecture", "confusion", "roc", "calibration", "mistakes", "grad_cam", "feature_maps")
WIDE = ("learning_curves", "architecture", "mistakes", "grad_cam", "feature_maps")


def compare(params: Params) -> pd.DataFrame:
    """Write reports/comparison.csv, comparison.json, curves.csv and report.html; returns the table."""
    dataset = files.read_json(layout.PREPARED / "dataset.json", "Run `dvc repro prepare`.")
    rows, histories = [], []
    recipes: dict[str, Recipe] = {}
    for variant, seed in params.cells:
        cell, history = cells.read(variant, seed)
        recipes[variant] = Recipe.model_validate(cell["recipe"])
        remedy = f"Run `dvc repro evaluate@{variant}-{seed}`."
        metrics = files.read_json(layout.report_folder(variant, seed) / "metrics.json", remedy)
        predictions = pd.read_csv(layout.report_folder(variant, seed) / "predictions.csv")
        right = int(((predictions["probability"] > 0.5) == (predictions["label"] == 1)).sum())
        interval = binomtest(right, len(predictions)).proportion_ci(method="wilson")
        rows.append(
            {"variant": variant, "seed": seed, **metrics, "interval_low": interval.low, "interval_high": interval.high}
        )
        histories.append(history.assign(cell=f"{variant}-{seed}", variant=variant, seed=seed))
    table = pd.DataFrame(rows).sort_values("val_binary_accuracy", ascending=False, kind="stable", ignore_index=True)
    curves = pd.concat(histories, ignore_index=True)

    files.write_text(layout.REPORTS / "comparison.csv", table.to_csv(index=False, lineterminator="\n"))
    changes = ablations.sentences(table, recipes)
    summary = {
        "data": {key: dataset[key] for key in ("source", "stand_in", "digest", "counts")},
        "changes": changes,
        "cells": json.loads(table.to_json(orient="records", double_precision=15)),
    }
    files.write_json(layout.REPORTS / "comparison.json", summary)
    ordered = [
        "cell",
        "variant",
        "seed",
        "epoch",
        *[name for name in curves if name not in ("cell", "variant", "seed", "epoch")],
    ]
    files.write_text(layout.REPORTS / "curves.csv", curves[ordered].to_csv(index=False, lineterminator="\n"))
    files.write_text(layout.REPORTS / "report.html", _report(table, curves, dataset, changes))
    return table


def _report(table: pd.DataFrame, curves: pd.DataFrame, dataset: dict[str, Any], changes: list[str]) -> str:
    """The whole report as one self-contained page."""
    with TemporaryDirectory() as folder:
        figures.overlay(curves, Path(folder) / "curves.png")
        overlay = _embedded(Path(folder) / "curves.png")
    cards = [
        {
            "name": f"{row.variant}-{row.seed}",
            "figures": [
                {
                    "picture": _embedded(layout.report_folder(row.variant, row.seed) / "figures" / f"{name}.png"),
                    "wide": name in WIDE,
                }
                for name in FIGURES
                if (layout.report_folder(row.variant, row.seed) / "figures" / f"{name}.png").is_file()
            ],
        }
        for row in table.itertuples()
    ]
    environment = Environment(loader=PackageLoader("car_or_truck"), autoescape=select_autoescape(), trim_blocks=True)
    return environment.get_template("report.html.j2").render(
        columns=leaderboard.COLUMNS,
        rows=[leaderboard.shown(row) for row in table.itertuples()],
        legend=leaderboard.legend(table, dataset),
        changes=changes,
        overlay=overlay,
        cards=cards,
        data=dataset,
    )


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
