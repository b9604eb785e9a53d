"""What a person who opens MLflow sees first: the verdict, two saved views of the runs, and the report's colours."""

from __future__ import annotations

import base64
import json
import sys
import time
import zlib
from typing import Any

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from car_or_truck.cells import names
from car_or_truck.compare import overfitting
from car_or_truck.compare.comparison import Comparison
from car_or_truck.compare.verdict import listed
from car_or_truck.errors import mask_passwords, summarize
from car_or_truck.tracking import runs, store

# A saved view is a tag of the experiment. MLflow 3.17 documents neither it nor its values: these are what the UI itself
# writes when a person saves a view; what a view leaves out has the UI's default.
SAVED = "mlflow.sharedViewState."
COLOUR = "mlflow.runColor"
BEST, OVERFITTED = "best-on-validation", "most-overfitted"
TITLES = {BEST: "Best on validation", OVERFITTED: "Most overfitted"}
COLUMNS = {  # metric and width in pixels, by view; the first sorts it, the highest first
    BEST: {"accuracy": 95, "accuracy_low": 110, "accuracy_high": 115, "generalization_gap": 145},
    OVERFITTED: {"generalization_gap": 145, "overfit_epoch": 110, "overfit_rise": 105, "accuracy": 95},
}
ALWAYS = {"parameters": 95, "training_seconds": 125}
OVERFITTING = "How badly each overfits"
CHARTS: dict[str, list[dict[str, Any]]] = {
    OVERFITTING: [
        {"type": "LINE", "metricKey": f"val_{name}", "selectedMetricKeys": [f"val_{name}", name], "lineSmoothness": 0}
        for name in ("loss", "binary_accuracy")
    ]
    + [{"type": "BAR", "metricKey": "generalization_gap"}],
    "Which is best on validation": [
        {"type": "BAR", "metricKey": metric} for metric in ("accuracy", "roc_auc", "calibration_error")
    ],
    "What each costs": [{"type": "BAR", "metricKey": metric} for metric in ("training_seconds", "parameters")],
    "What each looks like": [{"type": "IMAGE", "imageKeys": [figure], "showRunParams": False} for figure in runs.GRIDS],
}


def publish(comparison: Comparison) -> None:
    """Write verdict, views and colours where people look, here and on the server; say so where that fails."""
    for where in filter(None, [store.own(), store.server()]):
        try:
            _publish(mlflow.MlflowClient(where), comparison)
        except Exception as error:  # whatever it is, runs and comparison are there without
            print(
                f"{mask_passwords(where)} shows no views of this comparison: {summarize(error, 200)}",
                file=sys.stderr,
            )


def places() -> list[str]:
    """Lines that say where the views are."""
    server = store.server()
    lines = addresses(mlflow.MlflowClient(store.uri()), mask_passwords(server or "http://127.0.0.1:5000"))
    return lines if server else ["`make ui` starts MLflow at these addresses:", *lines]


def _publish(client: mlflow.MlflowClient, comparison: Comparison) -> None:
    """To the comparison's experiment in a store, and to its runs."""
    name = names.experiment_name(comparison.results[0].cell.stand_in)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return  # on a server that nothing was delivered to yet
    experiment_id = experiment.experiment_id
    tags = {MLFLOW_RUN_NOTE: f"{headline(comparison)} {_links(experiment_id)}\n\n{store.ABOUT}"}
    tags |= {f"{SAVED}{key}": _saved_view(key) for key in TITLES}
    for key, value in tags.items():
        client.set_experiment_tag(experiment_id, key, value)
    for result in comparison.results:
        for run in client.search_runs([experiment_id], f"tags.cell = '{result.cell.fingerprint}'"):
            client.set_tag(run.info.run_id, COLOUR, comparison.colours[result.variant])


def headline(comparison: Comparison) -> str:
    """Both answers in a line."""
    table, gaps = comparison.table[comparison.table["status"] == "compared"], comparison.summary["gaps"]
    accuracies = table.groupby("variant", sort=False)["val_binary_accuracy"].mean().round(6)
    best, accuracy = list(accuracies.index[accuracies == accuracies.max()]), f"{100 * accuracies.max():.1f}%"
    note = " Synthetic images, not photographs." if comparison.summary["data"]["stand_in"] else ""
    if not gaps:
        return f"Every model collapsed to one answer for every image.{note}"
    gap = round(100 * gaps[0]["gap"], 1)
    if len(accuracies) == 1:
        side = "below" if gap >= 0 else "above"
        return f"{best[0]} has {accuracy} accuracy on validation, {abs(gap):.1f} points {side} train.{note}"
    behind = [pair for pair in comparison.pairs if pair.first in best and pair.second not in best]
    lead = f"{listed(best)} {'is' if len(best) == 1 else 'are'} best on validation ({accuracy}"
    doubt = "" if all(pair.significant for pair in behind) else ", not significantly"
    overfits = overfitting.lead([overfitting.Gap(**gap) for gap in gaps])
    return f"{lead}{doubt}); {gaps[0]['variant']} {overfits} ({gap:z.1f} points).{note}"


def addresses(client: mlflow.MlflowClient, root: str) -> list[str]:
    """A line with the address of each view, in every experiment that has them; `root` is that of the UI."""
    experiments = [client.get_experiment_by_name(name) for name in (names.REAL, names.SYNTHETIC)]
    return [
        f"{experiment.name}, {title.lower()}: {root.rstrip('/')}/{_place(experiment.experiment_id, key)}"
        for experiment in experiments
        if experiment
        for key, title in TITLES.items()
        if f"{SAVED}{key}" in experiment.tags
    ]


def _place(experiment: str, key: str) -> str:
    """Where the UI shows a view, after its root."""
    charts = "&compareRunsMode=CHART" if key == OVERFITTED else ""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={key}{charts}"


def _links(experiment: str) -> str:
    return " · ".join(f"[{title}]({_place(experiment, key)})" for key, title in TITLES.items())


def _saved_view(key: str) -> str:
    """The value of a view's tag."""
    columns = {f"metrics.`{metric}`": width for metric, width in (COLUMNS[key] | ALWAYS).items()}
    sections = sorted(CHARTS, key=lambda section: (section == OVERFITTING) == (key == BEST))
    charts = [
        {"uuid": f"{section}-{number}", "metricSectionId": section, "deleted": False, "isGenerated": False, **chart}
        for section in sections
        for number, chart in enumerate(CHARTS[section])
    ]
    state = {
        "searchFilter": "tags.variant LIKE '%'",  # without the runs of comparisons
        "orderByKey": next(iter(columns)),
        "orderByAsc": False,
        "selectedColumns": [*columns, "attributes.`Models`"],
        "columnOrder": [*columns, "attributes.`Models`"],
        "columnWidths": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": section, "name": section, "display": True, "isReordered": True} for section in sections
        ],
        "isAccordionReordered": True,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = round(1000 * time.time())
    return json.dumps({"name": TITLES[key], "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})
