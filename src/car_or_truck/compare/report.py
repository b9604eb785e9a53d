"""reports/report.html: the comparison as one self-contained page."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from car_or_truck import files, paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import Dataset
from car_or_truck.cells.results import Result
from car_or_truck.compare import calibration, figures, leaderboard, overfitting, slice_figures, suspects
from car_or_truck.compare.comparison import Comparison

FIGURES = (  # of a model
    "learning_curves",
    "architecture",
    "confusion",
    "roc",
    "precision_recall",
    "calibration",
    "mistakes",
    "grad_cam",
    "feature_maps",
)
SCORES, COSTS = {leaderboard.QUALITY, leaderboard.SCORES}, {leaderboard.SIZE, leaderboard.COSTS}  # tables
# Colours that a dark page replaces by another shade.
INKS = {"#000000": "currentColor", "#0072b2": "var(--blue)", "#8c3b00": "var(--brown)", "#666666": "var(--gray)"}
MOST_PAIRS = 60  # of models, in the table


def render(comparison: Comparison, dataset: Dataset) -> str:
    """The page."""
    results, table, summary = comparison.results, comparison.table, comparison.summary
    correct = np.stack([result.correct for result in results])
    with TemporaryDirectory() as folder:
        drawn = {name: _inline(path) for name, path in draw(comparison, Path(folder), ".svg").items()}
    samples = [paths.AUDIT / "valid.png", paths.AUDIT / "splits.png"]
    loader = PackageLoader("car_or_truck.compare")
    environment = Environment(loader=loader, autoescape=select_autoescape(), trim_blocks=True)
    return environment.get_template("report.html.j2").render(
        summary=summary,
        data=dataset,
        columns=leaderboard.columns(table, SCORES),
        rows=leaderboard.rows(table, SCORES),
        legend=leaderboard.legend(table, dataset.count("valid")),
        cost_columns=leaderboard.columns(table, COSTS),
        cost_rows=leaderboard.rows(table, COSTS),
        drawn=drawn,
        overfits=table[table["status"] == "compared"].sort_values(["variant", "seed"]).to_dict("records"),
        grades=overfitting.LEGEND,
        pairs=comparison.pairs,
        models=summary["models"][:MOST_PAIRS],
        slices=_by_slice(summary["slices"]["table"]),
        cells=len(results),
        images=correct.shape[1],
        all_right=int(correct.all(axis=0).sum()),
        all_wrong=int((~correct).all(axis=0).sum()),
        confidence=suspects.CONFIDENCE,
        contact_sheet=_data_url(paths.REPORTS / "suspects.png"),
        lines=comparison.suspects[["name"]].assign(reason="").to_csv(index=False, header=False),
        cards=_cards(results),
        audit=files.read_json(paths.AUDIT / "audit.json", "Run `dvc repro prepare`."),
        pictures={path.stem: _data_url(path) for path in samples if path.is_file()},
        versions=results[0].cell.versions,
        precision=sorted({result.cell.precision for result in results}),
        parameters={result.variant: names.parameters(result.cell) for result in results},
        seeds=sorted({result.seed for result in results}),
    )


def draw(comparison: Comparison, folder: Path, suffix: str) -> dict[str, Path]:
    """The comparison's figures, into `folder`, as .svg or .png; name to path."""
    table, curves = comparison.table[comparison.table["status"] == "compared"], comparison.curves
    looks = figures.styles(list(curves["variant"].unique()))
    drawings: dict[str, Callable[[Path], None]] = {
        "accuracies": partial(figures.accuracies, table, looks),
        "loss": partial(figures.alone, figures.loss_axes, curves),
        "accuracy": partial(figures.alone, figures.accuracy_axes, curves),
        "gap": partial(figures.alone, figures.gap_axes, curves),
        "luck": partial(figures.luck, table, comparison.summary, looks),
        "reliability": partial(calibration.reliability, comparison.results, looks),
    }
    if comparison.pairs:
        drawings["differences"] = partial(figures.differences, comparison.pairs)
        drawings["cost"] = partial(figures.cost, table, looks)
    if comparison.summary["slices"]["table"]:
        ranked = {variant: looks[variant] for variant in table["variant"].unique()}  # the most accurate first
        drawings["slices"] = partial(slice_figures.drops, comparison.summary["slices"]["table"], ranked)
    drawn = {name: folder / f"{name}{suffix}" for name in drawings}
    for name, draw_into in drawings.items():
        draw_into(drawn[name])
    return drawn


def _by_slice(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of all variants for each slice; every variant has the same slices."""
    names = list(dict.fromkeys(row["slice"] for row in rows))
    return [[row for row in rows if row["slice"] == name] for name in names]


def _inline(path: Path) -> Markup:
    """An SVG as part of the page: as wide as its column, its black the page's text colour."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :].replace("<svg", '<svg role="img"', 1)
    text = re.sub(r' (?:width|height)="[^"]*"', "", text, count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids would not be unique in the page
    for colour, name in INKS.items():
        text = text.replace(colour, name)
    return Markup(text)


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _cards(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One model a variant, the median of its seeds by accuracy, with its figures."""
    cards = []
    for variant in dict.fromkeys(result.variant for result in results):
        of_variant = [result for result in results if result.variant == variant]
        ranked = sorted(of_variant, key=lambda result: result.correct.mean())
        median = ranked[(len(ranked) - 1) // 2]
        drawn = [median.cell.report_folder / "figures" / f"{name}.png" for name in FIGURES]
        pictures = {path.stem.replace("_", " "): _data_url(path) for path in drawn if path.is_file()}
        cards.append({"name": median.name, "seeds": len(ranked), "pictures": pictures})
    return cards
