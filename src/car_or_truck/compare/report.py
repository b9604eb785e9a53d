"""reports/report.html: the comparison as one page that asks for nothing else."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from car_or_truck import files, paths
from car_or_truck.cells import names as labels
from car_or_truck.cells.results import Judged
from car_or_truck.compare import figures as comparison_figures
from car_or_truck.compare import leaderboard, overfitting
from car_or_truck.compare.verdict import RecipePair

# A cell's figures in the report; the wide ones get a line of their own.
FIGURES = (
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
WIDE = ("learning_curves", "architecture", "mistakes", "grad_cam", "feature_maps")
QUALITY = ("95 %", "test", "gap", "rise @epoch")  # which the table of costs leaves out
# What is too dark on a dark page has another shade there.
INKS = {"#000000": "currentColor", "#0072b2": "var(--blue)", "#8c3b00": "var(--brown)", "#666666": "var(--gray)"}
MOST_PAIRS = 60  # of models, in the table
HARDEST = 16  # images


def render(
    judged: list[Judged],
    table: pd.DataFrame,
    curves: pd.DataFrame,
    summary: dict[str, Any],
    pairs: list[RecipePair],
    dataset: dict[str, Any],
) -> str:
    """The page. `table` is comparison.csv, `curves` curves.csv, `summary` comparison.json."""
    with TemporaryDirectory() as folder:
        drawn = {name: _inline(path) for name, path in figures(table, curves, pairs, Path(folder), ".svg").items()}
    hardest = _hardest(judged, dataset["classes"])
    audit = files.read_json(paths.AUDIT / "audit.json", "Run `dvc repro prepare`.")
    tags = labels.tags(judged[0].cell)
    environment = Environment(
        loader=PackageLoader("car_or_truck.compare"), autoescape=select_autoescape(), trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        summary=summary,
        data=dataset,
        columns=leaderboard.columns(table, costs=False, scores=True),
        rows=leaderboard.rows(table, costs=False, scores=True),
        legend=leaderboard.legend(table, dataset, costs=False),
        cost_columns=[column for column in leaderboard.columns(table) if column.title not in QUALITY],
        cost_rows=[
            [cell for column, cell in zip(leaderboard.columns(table), row, strict=True) if column.title not in QUALITY]
            for row in leaderboard.rows(table)
        ],
        timed=bool(table["seconds"].notna().any()),
        drawn=drawn,
        overfits=_overfits(table),
        grades=overfitting.LEGEND,
        pairs=pairs,
        models=summary["models"][:MOST_PAIRS],
        hardest=hardest,
        cards=_cards(judged),
        cells=len(judged),
        audit=audit,
        pictures={
            name: _data(paths.AUDIT / f"{name}.png")
            for name in ("valid", "splits")
            if (paths.AUDIT / f"{name}.png").is_file()
        },
        commit=tags.get("git.commit"),
        dirty=tags.get("git.dirty") == "true",
        versions=judged[0].cell["versions"],
        precision=sorted({one.cell["precision"] for one in judged}),
        parameters={one.variant: labels.parameters(one.cell) for one in judged},
        seeds=sorted({one.seed for one in judged}),
    )


def figures(
    table: pd.DataFrame, curves: pd.DataFrame, pairs: list[RecipePair], folder: Path, suffix: str
) -> dict[str, Path]:
    """The comparison's pictures, into `folder`, as .svg or .png; name to path."""
    compared = table[table["status"] == "compared"]
    paths = {
        name: folder / f"{name}{suffix}"
        for name in ("accuracies", "loss", "accuracy", "gap", "differences", "cost")
        if pairs or name not in ("differences", "cost")  # which take two variants
    }
    looks = comparison_figures.styles(list(curves["variant"].unique()))
    comparison_figures.accuracies(compared, looks, paths["accuracies"])
    comparison_figures.alone(comparison_figures.loss_axes, curves, paths["loss"])
    comparison_figures.alone(comparison_figures.accuracy_axes, curves, paths["accuracy"])
    comparison_figures.alone(comparison_figures.gap_axes, curves, paths["gap"])
    if "differences" in paths:
        comparison_figures.differences(pairs, paths["differences"])
    if "cost" in paths:
        comparison_figures.cost(compared, looks, paths["cost"])
    return paths


def _inline(path: Path) -> Markup:
    """An SVG as part of the page: as wide as there is room, its black the page's own ink."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # each figure would bring its own "axes_1"
    for colour, name in INKS.items():
        text = text.replace(colour, name)
    return Markup(text)


def _data(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _overfits(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the overfitting table."""
    compared = table[table["status"] == "compared"]
    return [dict(row) for row in compared.sort_values(["variant", "seed"]).to_dict("records")]


def _cards(judged: list[Judged]) -> list[dict[str, Any]]:
    """One cell for each variant, the middle one of its seeds by accuracy, with its figures."""
    cards = []
    for variant in dict.fromkeys(one.variant for one in judged):
        ranked = sorted(
            (one for one in judged if one.variant == variant), key=lambda one: one.scores["val_binary_accuracy"]
        )
        one = ranked[(len(ranked) - 1) // 2]
        drawn = [one.folder / "figures" / f"{name}.png" for name in FIGURES]
        cards.append(
            {
                "name": one.name,
                "seeds": len(ranked),
                "figures": [
                    {"picture": _data(path), "wide": path.stem in WIDE, "name": path.stem.replace("_", " ")}
                    for path in drawn
                    if path.is_file()
                ],
            }
        )
    return cards


def _hardest(judged: list[Judged], classes: list[str]) -> dict[str, Any] | None:
    """The images that most models get wrong; None for a single model, whose own mistakes are shown."""
    if len(judged) < 2:
        return None
    wrong = ~np.stack([one.right for one in judged])
    stated = np.stack([one.predictions["probability"] for one in judged]).mean(axis=0)
    known = judged[0].predictions
    sure = np.abs(known["label"].to_numpy() - stated)
    order = np.lexsort((-sure, -wrong.sum(axis=0)))[:HARDEST]
    order = order[wrong[:, order].any(axis=0)]
    images = np.load(paths.PREPARED / "valid" / "images.npy", mmap_mode="r")
    shown = [
        {
            "picture": _picture(images[place]),
            "name": known["name"][place],
            "class": classes[known["label"][place]],
            "stated": f"{stated[place]:.2f}",
            "wrong": int(wrong[:, place].sum()),
        }
        for place in order
    ]
    everyone = int(wrong.all(axis=0).sum())
    nobody = int((~wrong).all(axis=0).sum())
    return {"shown": shown, "all": everyone, "none": nobody, "images": wrong.shape[1]}


def _picture(pixels: NDArray[np.uint8]) -> str:
    """An image, uint8 [h, w, 3], as the page holds it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
