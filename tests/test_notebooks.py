"""notebooks/lesson: one text, two files, and it runs to its end on Kaggle's folders and on synthetic images."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.clones import ROOT, photos

pytestmark = pytest.mark.slow  # they need the extra `notebook`

LESSON = ROOT / "notebooks" / "lesson.ipynb"


def executed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What the notebook prints in `folder` with one epoch a model, and how many pictures it shows."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("EPOCHS", "1")
    notebook = nbformat.read(LESSON, 4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()  # raises a cell's error
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text") or output["data"]["text/plain"] for output in outputs]
    return "\n".join(texts), sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebook_for_kaggle_is_the_text_notebook_without_outputs() -> None:
    import jupytext
    import nbformat

    notebook, text = nbformat.read(LESSON, 4), jupytext.read(LESSON.with_suffix(".py"))
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ], "run `make notebook`"
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


def test_it_runs_on_the_folders_that_kaggle_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, working = photos(tmp_path / "input" / "car-or-truck", each=12), tmp_path / "working"
    working.mkdir()
    shutil.copyfile(data / "valid" / "Car" / "a.JPEG", data / "train" / "Car" / "leak.jpeg")
    output, pictures = executed(working, monkeypatch)
    assert "train: 25 images, 48.0% trucks\nvalid: 24 images, 50.0% trucks" in output
    assert "1 left out, 24 left" in output
    assert "SYNTHETIC" not in output
    assert len(re.findall(r"^ +1/1 ", output, re.MULTILINE)) == 3  # models with an epoch each
    assert "95% CI" in output
    assert pictures == 9
    assert not list(working.iterdir())


def test_it_runs_anywhere_else_on_synthetic_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, pictures = executed(tmp_path, monkeypatch)
    assert "these are SYNTHETIC images" in output
    assert "valid: 128 images" in output
    assert "95% CI" in output
    assert pictures == 9
