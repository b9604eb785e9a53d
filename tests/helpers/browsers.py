"""A real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def browser_path() -> str:
    """Where Chromium is. Without one, a test is skipped, and in CI it fails: there nobody reads what was skipped."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    if os.environ.get("CI"):
        pytest.fail("There is no Chromium, and CI is set: install one, or what a person sees is not tested.")
    pytest.skip("There is no Chromium here.")


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser."""
    executable = browser_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
