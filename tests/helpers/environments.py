"""Environments with packages of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# What uv says where the machine cannot do it; all else is a failure.
LACKING = re.compile(r"client error \(Connect\)|No interpreter found|Failed to inspect Python")


def new_environment(folder: Path, *packages: str, python: str = sys.executable) -> Path:
    """The bin/ of a new environment with these packages; skips the test where there is no network or no such Python."""
    for command in (
        ["venv", "--no-python-downloads", "--python", python, str(folder)],
        ["pip", "install", "--python", str(folder / "bin/python"), *packages],
    ):
        result = subprocess.run(["uv", *command], stderr=subprocess.PIPE, text=True, timeout=900)
        if result.returncode and LACKING.search(result.stderr):
            pytest.skip(f"An environment cannot be made here: {result.stderr.strip()[-200:]}")
        assert result.returncode == 0, result.stderr
    return folder / "bin"
