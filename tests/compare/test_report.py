"""reports/report.html in a browser, as wide as a desk's and as a phone's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser

from helpers.browsers import chromium
from helpers.clones import Project


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_report_fits_asks_for_nothing_and_sorts(
    width: int, scheme: Literal["light", "dark"], finished: Project, browser: Browser
) -> None:
    report = (finished.root / "reports/report.html").as_uri()
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    output: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: output.append(message.text))
    page.on("pageerror", lambda error: output.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    page.goto(report)
    for part in page.locator("details > summary").all():
        part.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert output == []
    assert [url for url in urls if not url.startswith("data:")] == [report]

    def accuracies() -> list[float]:
        return [float(text.rstrip("%")) for text in page.locator("#results tbody td:nth-child(2)").all_inner_texts()]

    for name in ("accuracy", "gap", "overfits"):  # in sight without scrolling
        box = page.locator("#results").get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
    best_first = accuracies()
    assert best_first == sorted(best_first, reverse=True)
    page.locator("#results").get_by_role("button", name="accuracy").click()
    assert accuracies() == sorted(best_first)
    page.locator("#results").get_by_role("button", name="variant").click()
    names = page.locator("#results tbody td:first-child").all_inner_texts()
    assert names == sorted(names, reverse=True)
    page.close()
