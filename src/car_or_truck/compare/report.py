"""reports/report.html: the comparison as one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from car_or_truck import files, paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import Dataset
from car_or_truck.cells.results import Result
from car_or_truck.compare import (
    calibration,
    figures,
    leaderboard,
    overfitting,
    pictures,
    report_tables,
    slice_figures,
    suspects,
    verdict_figures,
)
from car_or_truck.compare.comparison import Comparison
from car_or_truck.compare.dvc_plots import accuracies
from car_or_truck.compare.overfitting import Gap
from car_or_truck.compare.pictures import Tile
from car_or_truck.drawing import Pixels
from car_or_truck.evaluate.figures import looks_sentence, only_in_training, worst_mistakes

MOST_PAIRS = 60  # of models, in the table
MOST_TILES = 12  # images of a kind


def render(comparison: Comparison, dataset: Dataset) -> str:
    """The page."""
    results, table, summary = comparison.results, comparison.table, comparison.summary
    compared = table[table["status"] == "compared"]
    correct = np.stack([result.correct for result in results])
    images = np.load(paths.PREPARED / "valid" / "images.npy", mmap_mode="r")
    with TemporaryDirectory() as folder:
        drawn = {name: pictures.inline(path) for name, path in draw(comparison, Path(folder), ".svg").items()}
    environment = Environment(
        loader=PackageLoader("car_or_truck.compare"), autoescape=select_autoescape(["html.j2"]), trim_blocks=True
    )
    environment.filters["p"] = lambda value: "< 0.001" if value < 0.001 else f"{value:.2g}"
    recipes = {result.variant: result.cell.recipe for result in results}
    suspected = comparison.suspects  # with the mean probability of all seeds
    of_best = suspects.best_seeds(results)[0].predictions.assign(probability=suspected["probability"])
    audit, splits = files.read_json(paths.AUDIT / "audit.json", "Run `dvc repro prepare`."), paths.AUDIT / "splits.svg"
    return environment.get_template("report.html.j2").render(
        summary=summary,
        data=dataset,
        results=report_tables.tabulate(table, report_tables.RESULTS, "val_binary_accuracy"),
        scores=report_tables.tabulate(table, report_tables.SCORES, "val_binary_accuracy"),
        overfits=report_tables.tabulate(compared, report_tables.OVERFITTING, "generalization_gap"),
        marks=leaderboard.notes(table),
        calibrations=compared.to_dict("records"),
        drawn=drawn,
        grades=overfitting.LEGEND,
        unlike={variant: only_in_training(recipe) for variant, recipe in recipes.items()},
        pairs=comparison.pairs,
        models=summary["models"][:MOST_PAIRS],
        slices=_by_slice(summary["slices"]["table"]),
        cells=len(results),
        images=correct.shape[1],
        all_right=int(correct.all(axis=0).sum()),
        all_wrong=int((~correct).all(axis=0).sum()),
        confidence=suspects.CONFIDENCE,
        suspects=pictures.tiles(of_best, images, list(suspected.index[:MOST_TILES]), dataset.classes),
        lines=suspected[["name"]].assign(reason="").to_csv(index=False, header=False),
        cards=_cards(comparison, images),
        sample=_sample(results[0], images, dataset.classes),
        audit=audit,
        findings=audit_findings(audit),
        colours=comparison.colours,
        splits=pictures.inline(splits) if splits.is_file() else None,
        versions=results[0].cell.versions,
        precision=sorted({result.cell.precision for result in results}),
        parameters={result.variant: names.parameters(result.cell) for result in results},
        seeds=sorted({result.seed for result in results}),
    )


def draw(comparison: Comparison, folder: Path, suffix: str) -> dict[str, Path]:
    """The comparison's figures, into `folder`, as .svg or .png; name to path."""
    table = comparison.table[comparison.table["status"] == "compared"]
    curves, summary = comparison.curves, comparison.summary
    styles = figures.styles(comparison.colours)
    looks = {variant: styles[variant] for variant in accuracies(table)["variant"]}
    drawings: dict[str, Callable[[Path], None]] = {
        "accuracies": partial(verdict_figures.accuracies, table, looks),
        "loss": partial(figures.over_epochs, figures.LOSS, curves, looks),
        "accuracy": partial(figures.over_epochs, figures.ACCURACY, curves, looks),
        "gap": partial(figures.over_epochs, figures.GAP, curves, looks),
        "luck": partial(figures.luck, table, summary, looks),
        "reliability": partial(calibration.reliability, comparison.results, table, looks),
        "roc": partial(calibration.roc, comparison.results, looks),
    }
    if summary["gaps"]:
        gaps = [Gap(**gap) for gap in summary["gaps"]]
        drawings["overfitting"] = partial(verdict_figures.dumbbell, table, gaps, looks)
    if comparison.pairs:
        drawings["differences"] = partial(verdict_figures.differences, comparison.pairs)
        drawings["cost"] = partial(figures.cost, table, looks)
    if summary["slices"]["table"]:
        drawings["slices"] = partial(slice_figures.drops, summary["slices"]["table"], looks)
    drawn = {name: folder / f"{name}{suffix}" for name in drawings}
    for name, draw_into in drawings.items():
        draw_into(drawn[name])
    return drawn


def audit_findings(audit: Mapping[str, Any]) -> list[str]:
    """What the audit counted, and then what it did not find."""
    kinds = {
        "identical": "pairs of identical files",
        "leaks": "training images that are also in validation",
        "dropped": "images dropped from train",
        "conflicts": "identical files with conflicting labels",
        "near_duplicates": "near-duplicate pairs",
        "undecodable": "undecodable files",
        "dark": "very dark images",
        "bright": "very bright images",
        "constant": "blank images",
    }
    counts = [f"{words}: {len(audit[kind])}" for kind, words in kinds.items() if audit[kind]]
    absent = [words for kind, words in kinds.items() if not audit[kind]]
    return [f"Found {'; '.join(counts)}."] * bool(counts) + [f"Found no {', no '.join(absent)}."] * bool(absent)


def _by_slice(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of all variants for each slice; every variant has the same slices."""
    names = list(dict.fromkeys(row["slice"] for row in rows))
    return [[row for row in rows if row["slice"] == name] for name in names]


def _cards(comparison: Comparison, images: Pixels) -> list[dict[str, Any]]:
    """One model a variant, the median of its seeds by accuracy, with its figures; the most accurate variant first."""
    cards = []
    for variant in accuracies(comparison.table)["variant"]:
        seeds = [result for result in comparison.results if result.variant == variant]
        median = sorted(seeds, key=lambda result: -result.correct.mean())[len(seeds) // 2]
        folder, classes = median.cell.report_folder / "figures", median.cell.data.classes
        worst = worst_mistakes(median.labels, median.probability)[:MOST_TILES]
        colour = comparison.colours[variant]
        cards.append(
            {
                "name": median.name,
                "variant": variant,
                "seeds": len(seeds),
                "looks": looks_sentence(median.scores["heat_on_bars"], median.scores["bars"]),
                "drawn": {path.stem: pictures.inline(path, colour) for path in sorted(folder.glob("*.svg"))},
                "sheets": {
                    name: pictures.sheet(folder / f"{name}.png")
                    for name in ("grad_cam", "feature_maps")
                    if (folder / f"{name}.png").is_file()  # a base has no feature maps
                },
                "mistakes": pictures.tiles(median.predictions, images, list(worst), classes),
            }
        )
    return cards


def _sample(result: Result, images: Pixels, classes: Sequence[str]) -> dict[str, list[Tile]]:
    """A few images of each class."""
    chosen = {}
    for label, name in enumerate(classes):
        places = np.flatnonzero(result.labels == label)
        few = places[np.linspace(0, len(places) - 1, min(MOST_TILES, len(places))).astype(int)]
        chosen[name] = pictures.tiles(result.predictions, images, list(few), classes)
    return chosen
