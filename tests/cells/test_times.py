"""How long a training took is remembered outside DVC's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from car_or_truck.cells.times import Pace, read_pace, write_pace


def test_a_pace_is_kept_by_fingerprint_and_a_broken_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    pace = Pace(12.5, 20.25, 300.0)
    write_pace("a" * 64, pace)
    assert read_pace("a" * 64) == pace
    assert read_pace("b" * 64) is None
    (file,) = (tmp_path / ".dvc" / "tmp").rglob("*.json")
    for content in ("", '{"seconds": 1}', '{"seconds": 1, "cpu_seconds": 1, "images_per_second": 1, "more": 1}'):
        file.write_text(content)
        assert read_pace("a" * 64) is None
