"""`record`: results/, what git keeps of the models here: scores, predictions, curves, and what follows from them.

A model once recorded stays, so that a record grows over workspaces that do not last.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader

from car_or_truck import files, paths
from car_or_truck.cells.cell import Dataset, TrainedCell, read_dataset
from car_or_truck.cells.results import Missing, Result, read_recorded, read_results, seed_folders
from car_or_truck.cells.times import processor, read_pace
from car_or_truck.compare import report
from car_or_truck.compare.comparison import Comparison
from car_or_truck.errors import Failure
from car_or_truck.git import git
from car_or_truck.lock import lock_text, locked_stages, read_stages
from car_or_truck.params import Params

RECORD = Path("results")
CELLS, ORIGINS, LOCK = RECORD / "cells", RECORD / "origins.csv", RECORD / "dvc.lock"
OWN = {"seed", "fingerprint", "threads", "kept_epoch", "parameters", "data"}  # in what models of a recipe may differ


def record(params: Params) -> None:
    """Bring results/ up to date with every model of params.yaml that is trained and evaluated here.

    Raises Failure when it holds models of other images, or one that is not whole, and when seeds of a variant here
    differ in more than their seed.
    """
    dataset = read_dataset()
    stages, recorded = locked_stages(), read_stages(LOCK)  # a broken one is told before anything is written
    results, missing = read_results(params, dataset)
    latest = {result.variant: result.cell for result in results}
    for result in results:
        if not _alike(result.cell, latest[result.variant]):
            other = latest[result.variant].name
            raise Failure(
                f"{result.name} and {other} differ in precision, code or versions. Run `dvc repro` first; if that has "
                f"nothing to do, set train.precision, or run `dvc repro --force --single-item train@{result.name}`."
            )
    earlier = _recorded()
    for result in earlier:
        if result.cell.data.splits != dataset.splits:
            raise Failure(
                f"{_folder(result)} is of other images ({result.cell.data.source} {result.cell.data.digest[:12]}) than "
                f"data/prepared holds ({dataset.source} {dataset.digest[:12]}). For a new record, move {RECORD}/ away."
            )
    local_names = {result.name for result in results}
    others = [result for result in earlier if result.name not in local_names]
    kept_results = [result for result in others if _alike(result.cell, latest.get(result.variant, result.cell))]
    kept_names = {result.name for result in kept_results}
    dropped_results = [result for result in others if result.name not in kept_names]
    for result in results:
        _copy(result)
    for result in dropped_results:
        shutil.rmtree(_folder(result))
    variants = [*params.variants, *sorted({result.variant for result in kept_results} - params.variants.keys())]
    # Read from the record, so that it does not matter which of them are here.
    recorded_results = sorted(_recorded(), key=lambda result: (variants.index(result.variant), result.seed))
    _write(Comparison.from_results(recorded_results, [], dataset), dataset)
    files.write_text(LOCK, lock_text(_merge_stages(stages, recorded, local_names, kept_names)))
    _tell(results, kept_results, dropped_results, missing)


def _recorded() -> list[Result]:
    return [read_recorded(folder) for folder in seed_folders(CELLS)]


def _copy(result: Result) -> None:
    model, report = result.cell.model_folder, result.cell.report_folder
    with files.whole_folder(_folder(result)) as folder:
        kept_files = model / "cell.json", model / "history.csv", report / "evaluation.json", report / "predictions.csv"
        for path in kept_files:
            shutil.copyfile(path, folder / path.name)


def _folder(result: Result) -> Path:
    return CELLS / result.variant / str(result.seed)


def _alike(first: TrainedCell, second: TrainedCell) -> bool:
    """Whether two models of a variant differ in no more than their seed, as a comparison takes for granted."""
    return first.model_dump(exclude=OWN) == second.model_dump(exclude=OWN)


def _write(comparison: Comparison, dataset: Dataset) -> None:
    """All that follows from the recorded models."""
    origins = _origins(comparison.results)
    files.write_csv(ORIGINS, origins)
    files.write_csv(RECORD / "comparison.csv", comparison.table)
    files.write_csv(RECORD / "curves.csv", comparison.curves)
    files.write_json(RECORD / "comparison.json", comparison.summary)
    shutil.copyfile("params.yaml", RECORD / "params.yaml")
    with files.whole_folder(RECORD / "figures") as folder:
        drawn = report.draw(comparison, folder, ".png")
    loader = PackageLoader("car_or_truck.commands")
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    text = environment.get_template("results.md.j2").render(
        data=dataset,
        rows=tabulate(comparison.table, origins).to_dict("records"),
        summary=comparison.summary,
        figures=drawn,
        origins=origins.groupby(["commit", "machine", "precision"], sort=False)["model"].agg(", ".join).reset_index(),
    )
    files.write_text(RECORD / "README.md", text)


def tabulate(table: pd.DataFrame, origins: pd.DataFrame) -> pd.DataFrame:
    """A row a variant, the most accurate first: means over its seeds, and its lowest and highest accuracy."""
    models = table.assign(model=table["variant"] + "-" + table["seed"].astype(str)).merge(origins, on="model")
    by_variant = models.groupby("variant", sort=False)
    rows = by_variant.agg(
        accuracy=("val_binary_accuracy", "mean"),
        lowest=("val_binary_accuracy", "min"),
        highest=("val_binary_accuracy", "max"),
        seeds=("seed", "count"),
        train=("train_binary_accuracy", "mean"),
        gap=("generalization_gap", "mean"),
        parameters=("parameters", "first"),
        cpu_seconds=("cpu_seconds", "mean"),
        precision=("precision", "first"),
    )
    return rows.sort_values("accuracy", ascending=False, kind="stable").reset_index()


def _origins(results: Sequence[Result]) -> pd.DataFrame:
    """origins.csv: what each model cost, where, and the commit at which it was first recorded."""
    as_text = {"cell": str, "commit": str}  # digits alone, or with an e, would be read as a number
    earlier = pd.read_csv(ORIGINS, dtype=as_text).to_dict("records") if ORIGINS.is_file() else []
    rows: dict[str, dict[str, Any]] = {row["cell"]: row for row in earlier}
    commit = (git("rev-parse", "HEAD") or "unknown")[:12]
    for cell in [result.cell for result in results]:
        pace, known = read_pace(cell.fingerprint), rows.get(cell.fingerprint)
        if known is None or (pace and round(pace.cpu_seconds, 1) != known["cpu_seconds"]):
            rows[cell.fingerprint] = {
                "model": cell.name,
                "cell": cell.fingerprint,
                "precision": cell.precision,
                "threads": cell.threads,
                "seconds": round(pace.seconds, 1) if pace else None,
                "cpu_seconds": round(pace.cpu_seconds, 1) if pace else None,
                "machine": processor() if pace else "unknown",  # of one that was trained elsewhere
                "commit": commit,
            }
    return pd.DataFrame(rows[result.cell.fingerprint] for result in results)


def _merge_stages(
    stages: dict[str, Any], recorded: dict[str, Any], local_names: set[str], other_names: set[str]
) -> dict[str, Any]:
    """dvc.lock's stages of the models in `local_names`, and of those in `other_names` as they were recorded."""
    own = {name: stage for name, stage in stages.items() if _model(name) in {"", *local_names} and name != "compare"}
    return own | {name: stage for name, stage in recorded.items() if _model(name) in other_names}


def _model(stage: str) -> str:
    """What train@VARIANT-SEED is of; empty for the other stages."""
    return stage.partition("@")[2]


def _tell(
    results: Sequence[Result],
    kept_results: Sequence[Result],
    dropped_results: Sequence[Result],
    missing: Sequence[Missing],
) -> None:
    print(f"{RECORD}: {len(results)} model{'s' * (len(results) != 1)} from here, {len(kept_results)} kept from before.")
    for result in dropped_results:
        print(f"Dropped: {result.name}; {result.variant} here has another recipe, precision, code or library version.")
    kept = {result.name for result in kept_results}
    for item in missing:
        if item.name not in kept:
            print(f"Not recorded: {item.name}, which {item.why}.")
    named = kept | {result.name for result in results} | {item.name for item in missing}
    for name in (f"{folder.parent.name}-{folder.name}" for folder in seed_folders(paths.MODELS)):
        if name not in named:
            print(f"Not recorded: {name}, which train.variants and train.seeds do not name.")
