"""What `compare` writes for who opens MLflow: the verdict, the saved views and the colours."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace

import mlflow
import numpy as np
import pytest

from car_or_truck import drawing, params, pipeline
from car_or_truck.cells.cell import read_dataset
from car_or_truck.cells.results import read_results
from car_or_truck.compare.comparison import Comparison
from car_or_truck.tracking import views
from helpers.cells import cell, dataset, predictions, result
from helpers.clones import Project
from helpers.registered import console, loose
from helpers.stores import SYNTHETIC, runs

LABELS = np.tile([0, 1], 100)


def compared(right: dict[str, int], gaps: dict[str, float]) -> Comparison:
    """Of models that are right on so many of 200 images, and have these generalization gaps."""
    results = []
    for variant, count in right.items():
        wrong = np.arange(200) >= count
        probability = np.where(wrong, 0.9 - 0.8 * LABELS, 0.1 + 0.8 * LABELS)
        cell_result = result(cell(variant), predictions(probability.tolist(), LABELS.tolist()))
        results.append(
            replace(cell_result, scores=cell_result.scores | {"generalization_gap": gaps[variant], "overfit_rise": 0.0})
        )
    return Comparison.from_results(results, [], dataset())


@pytest.mark.parametrize(
    ("right", "gaps", "says"),
    [
        ({"plain": 150}, (0.125,), "plain has 75.0% accuracy on validation, 12.5 points below train."),
        ({"plain": 150}, (-0.012,), "plain has 75.0% accuracy on validation, 1.2 points above train."),
        (
            {"plain": 150, "deep": 190},
            (0.2, 0.1),
            "deep is best on validation (95.0%); plain overfits most (20.0 points).",
        ),
        (
            {"plain": 189, "deep": 190},
            (0.0, 0.1),
            "deep is best on validation (95.0%, not significantly); deep overfits most (10.0 points).",
        ),
        (
            {"plain": 190, "deep": 190},
            (0.1, 0.2),
            "plain and deep are best on validation (95.0%); deep overfits most (20.0 points).",
        ),
        (
            {"plain": 150, "deep": 190},
            (0.0, -0.1),
            "deep is best on validation (95.0%); plain has the widest gap (0.0 points).",
        ),
    ],
)
def test_the_headline_gives_both_answers(right: dict[str, int], gaps: tuple[float, ...], says: str) -> None:
    assert views.headline(compared(right, dict(zip(right, gaps, strict=True)))).startswith(says)


def test_the_experiment_has_verdict_and_views_and_its_runs_have_colours(client: mlflow.MlflowClient) -> None:
    experiment = client.get_experiment_by_name(SYNTHETIC)
    first, *_ = experiment.tags["mlflow.note.content"].splitlines()
    results, missing = read_results(params.load(), read_dataset())  # what small nets learn depends on the processor
    assert first.startswith(views.headline(Comparison.from_results(results, missing, read_dataset())))
    assert "Synthetic images, not photographs." in first
    for key, sort in {"best-on-validation": "accuracy", "most-overfitted": "generalization_gap"}.items():
        assert f"viewStateShareKey={key}" in first
        view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
        state = json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))
        assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{sort}`", False)
        columns = {column.split("`")[1] for column in state["selectedColumns"]} - {"Models"}
        charted = {chart["metricKey"] for chart in state["compareRunCharts"] if "metricKey" in chart}
        for run in runs(client):
            assert columns | charted <= set(run.data.metrics)
    colours = {run.data.tags["variant"]: run.data.tags["mlflow.runColor"] for run in runs(client)}
    assert colours == drawing.variant_colours(["tutorial", "exercise"])
    (comparison,) = runs(client, of_cells=False)
    about = comparison.data.tags["mlflow.note.content"]
    for part in ("Synthetic images, not photographs.", "tutorial: ", "exercise: ", "report.html"):
        assert part in about
    assert [item.dataset.name for item in comparison.inputs.dataset_inputs] == ["rendered-valid"]


def test_a_view_that_cannot_be_written_costs_the_comparison_nothing(
    client: mlflow.MlflowClient, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "reports/report.html").unlink()
    monkeypatch.setattr(views, "SAVED", "no:such tag, because of its \x00")
    pipeline.compare(loose(), console())
    printed = capsys.readouterr()
    assert "mlflow.db shows no views of this comparison: " in printed.err
    assert re.search(r"^(Challenger: version|No challenger: the champion)", printed.out, re.MULTILINE)
    assert (project.root / "reports/report.html").is_file()
