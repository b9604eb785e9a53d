"""What `dvc plots show` writes, as a person opens it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from car_or_truck.compare import dvc_plots
from helpers.browsers import chromium
from helpers.clones import Project

LISTED = ("tutorial", "exercise")


def test_every_table_has_one_colour_a_variant(finished: Project) -> None:
    folder = finished.root / "reports/plots"
    accuracies = pd.read_csv(folder / "overfitting.csv")
    colours = dict(zip(accuracies["variant"], accuracies["colour"], strict=True))
    assert len(set(colours.values())) == 2
    for name in ("curves", "roc", "calibration", "confusion"):
        table = pd.read_csv(folder / f"{name}.csv")
        assert dict(zip(table["cell"].str.removesuffix("-31415"), table["colour"], strict=True)) == colours, name
    table = pd.read_csv(finished.root / "reports/comparison.csv")
    assert list(accuracies["variant"]) == list(table["variant"])  # the best first
    assert list(accuracies["validation"]) == pytest.approx(list(table["val_binary_accuracy"]), abs=1e-6)
    assert set(accuracies["source"]) == {"rendered"}


def test_variants_that_tie_stand_in_the_order_of_the_table() -> None:
    scores = {"status": "compared", "train_binary_accuracy": 0.95, "val_binary_accuracy": [0.9, 0.9, 0.92]}
    table = pd.DataFrame({"variant": ["tutorial", "exercise", "best"], **scores})
    assert list(dvc_plots.accuracies(table)["variant"]) == ["best", "tutorial", "exercise"]


def test_the_page_is_filled_and_shows_before_vega_is_there(finished: Project, tmp_path: Path) -> None:
    finished.run("dvc", "plots", "show", "-o", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert page.count("vegaEmbed('#") == 6
    assert not re.search(r"\{(scripts|plot_divs|refresh_tag)\}", page)
    assert page.index("vegaEmbed('#") < page.index("Best on validation:") < page.index("cdn.jsdelivr.net/npm/vega@")


@pytest.mark.slow
def test_without_a_network_a_browser_shows_the_answers_and_what_is_missing(finished: Project, tmp_path: Path) -> None:
    finished.run("dvc", "plots", "show", "-o", str(tmp_path))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.context.set_offline(True)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "index.html").as_uri())
        assert page.get_by_text("Synthetic images, not photographs.").is_visible()
        assert page.get_by_text("The charts need Vega").is_visible()
        best = pd.read_csv(finished.root / "reports/comparison.csv").iloc[0]
        answer = f"Best on validation: {best['variant']}, {100 * best['val_binary_accuracy']:.1f}%. Widest gap: "
        assert page.get_by_text(answer).is_visible()
        assert page.locator(".legend li").all_inner_texts() == [best["variant"], *({*LISTED} - {best["variant"]})]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert errors == []
