"""What `dvc plots show` writes, as a person opens it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from helpers.browsers import browser_path
from helpers.clones import Project


def test_every_chart_has_the_colours_of_the_legend(finished: Project) -> None:
    folder = finished.root / "reports/plots"
    page = (folder / "page.html").read_text()
    legend = {variant: colour for colour, variant in re.findall(r'background: (#\w+)"></span>(\S+)</li>', page)}
    assert set(legend) == {"tutorial", "exercise"}
    for name in ("overfitting", "curves", "roc", "calibration", "confusion"):
        table = pd.read_csv(folder / f"{name}.csv")
        variants = table["variant"] if "variant" in table else table["cell"].str.removesuffix("-31415")
        assert dict(zip(variants, table["colour"], strict=True)) == legend, name
    table = pd.read_csv(finished.root / "reports/comparison.csv")
    accuracies = pd.read_csv(folder / "overfitting.csv")
    assert list(accuracies["variant"]) == list(legend) == list(table["variant"])  # the best first, on every surface
    assert list(accuracies["validation"]) == pytest.approx(list(table["val_binary_accuracy"]), abs=1e-6)


def test_without_a_network_the_page_says_what_is_missing(finished: Project, tmp_path: Path) -> None:
    finished.run("dvc", "plots", "show", "-o", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert "Synthetic images, not photographs." in page
    assert page.count("vegaEmbed('#") == 6
    assert not re.search(r"\{(scripts|plot_divs|refresh_tag)\}", page)
    assert page.index("Overfits most:") < page.index("cdn.jsdelivr.net/npm/vega@")  # it shows before Vega is there
    assert page.index("vegaEmbed('#") < page.index("cdn.jsdelivr.net/npm/vega@")


@pytest.mark.slow
def test_a_browser_without_a_network_shows_the_message_and_no_error(finished: Project, tmp_path: Path) -> None:
    executable = browser_path()
    from playwright.sync_api import sync_playwright

    finished.run("dvc", "plots", "show", "-o", str(tmp_path))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.context.set_offline(True)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "index.html").as_uri())
        assert page.get_by_text("The charts need Vega").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert errors == []
        browser.close()
