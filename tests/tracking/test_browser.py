"""What a person sees in a real browser: the real MLflow UI, started with no flags, on a store that is done."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest

from helpers.browsers import browser_path, chromium
from helpers.clones import Project
from helpers.processes import running
from helpers.stores import SYNTHETIC as NAME

CELLS = ("tutorial-31415", "exercise-31415")
SIZE: Any = {"width": 1400, "height": 900}  # playwright's ViewportSize
# The UI opens its assistant's panel over a third of a page that it has never shown before.
NO_PANEL = (
    "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
    "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')"
)


def test_a_missing_browser_fails_in_ci_and_is_skipped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="There is no Chromium, and CI is set"):
        browser_path()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="There is no Chromium here"):
        browser_path()


@pytest.fixture
def page(project: Project) -> Iterator[Any]:
    """A browser's page; `page.show("/experiments/1")` goes to a page of the UI."""
    with running(project, "mlflow", "ui", ready="/health") as address, chromium() as browser:
        page: Any = browser.new_page(viewport=SIZE)
        page.set_default_timeout(60_000)
        page.add_init_script(NO_PANEL)

        def show(path: str) -> None:
            page.goto("about:blank")
            page.goto(f"{address}/#{path}")

        page.show = show
        yield page


def runs(client: mlflow.MlflowClient) -> tuple[str, dict[str, str]]:
    """The experiment's id, and {name: id} of its runs."""
    experiment = str(client.get_experiment_by_name(NAME).experiment_id)
    return experiment, {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}


@pytest.mark.slow
def test_runs_curves_figures_datasets_and_comparison_are_shown(page: Any, client: mlflow.MlflowClient) -> None:
    experiment, run_ids = runs(client)
    page.show(f"/experiments/{experiment}/runs")
    for cell in CELLS:
        page.get_by_role("link", name=cell).first.wait_for()
    page.get_by_text("rendered-train").first.wait_for()
    for column in ("Run Name", "Dataset", "Duration"):
        page.get_by_text(column, exact=True).first.wait_for()

    run = f"/experiments/{experiment}/runs/{run_ids['exercise-31415']}"
    page.show(run)
    for text in ("generalization_gap", "val_binary_accuracy", "recipe.optimizer.name", "rendered-train", "git.commit"):
        page.get_by_text(text).first.wait_for()
    page.show(f"{run}/model-metrics")
    page.get_by_text("exercise-31415 (binary_accuracy)").first.wait_for()
    page.show(f"{run}/artifacts/figures/learning_curves.png")
    page.locator("img[src*='learning_curves'], img[src^='blob:']").first.wait_for()

    ids = json.dumps([run_ids[cell] for cell in CELLS], separators=(",", ":"))
    keys = json.dumps(["val_loss", "loss"], separators=(",", ":"))
    page.show(f'/metric?runs={ids}&experiments=["{experiment}"]&metric="val_loss"&plot_metric_keys={keys}&x_axis=step')
    for cell in CELLS:
        for metric in ("val_loss", "loss"):
            page.get_by_text(f"{cell} ({metric})").first.wait_for()


@pytest.mark.slow
def test_a_fresh_browser_reaches_each_answer_in_two_clicks(client: mlflow.MlflowClient, project: Project) -> None:
    first, *_ = str(client.get_experiment_by_name(NAME).tags["mlflow.note.content"]).splitlines()
    answers = first.partition(" [")[0]
    _, run_ids = runs(client)
    measured = {name: client.get_run(run_ids[name]).data.metrics for name in CELLS}
    source = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = ("car-or-truck", "ui", "--port", "{port}")
    with running(project, *command, ready="/health", **source) as address, chromium() as browser:
        printed = (project.root / "server.txt").read_text()
        links = [word for word in printed.split() if word.startswith(f"{address}/#/experiments/")]

        def fresh(place: str) -> Any:
            page = browser.new_context(viewport=SIZE).new_page()
            page.set_default_timeout(60_000)
            page.goto(place)
            return page

        page = fresh(address)
        page.get_by_role("link", name=NAME, exact=True).click()  # the first click
        page.get_by_text(answers).first.wait_for()

        assert len(links) == 2
        for link, metric, caption in zip(
            links, ("accuracy", "generalization_gap"), ("accuracy_low", "How badly each overfits"), strict=True
        ):
            page = fresh(link)  # the first click
            page.get_by_text(caption).first.wait_for()
            page.get_by_text(f"Sort: {metric}").wait_for()
            rows = page.get_by_role("link", name=re.compile("-31415$")).all_inner_texts()
            names = list(dict.fromkeys(rows))
            values = [measured[name][metric] for name in names]
            assert set(names) == set(CELLS)
            assert values == sorted(values, reverse=True)


@pytest.mark.slow
def test_an_alias_that_is_moved_there_is_what_predict_asks(
    page: Any, client: mlflow.MlflowClient, project: Project
) -> None:
    variants = [client.get_model_version(NAME, number).tags["variant"] for number in ("1", "2")]
    assert variants == ["tutorial", "exercise"], "the pipeline registers in the order of params.yaml"
    client.set_registered_model_alias(NAME, "champion", "1")
    page.show(f"/models/{NAME}")
    for text in ("Version 1", "Version 2", "champion", "variant"):
        page.get_by_text(text).first.wait_for()
    page.show(f"/models/{NAME}/versions/2")
    for text in ("a convnet that tells Car from Truck", "Accuracy.", "Overfitting.", "do not trust it on photographs"):
        page.get_by_text(text).first.wait_for()

    page.locator("button[title*='aliases'], button[aria-label*='aliases']").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill("champion")
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name=re.compile("Save")).click()
    dialog.wait_for(state="hidden")
    assert client.get_model_version_by_alias(NAME, "champion").version in (2, "2")

    picture = next((project.root / "data/raw/valid/Car").iterdir())
    output = project.run("car-or-truck", "predict", str(picture))
    assert f"Using {NAME} version 2 (exercise-31415)" in output
    output = project.run("car-or-truck", "promote", "--history")
    assert "from none to version 2" in output
