"""What is said of a store that cannot be used."""

from __future__ import annotations

import pytest
from mlflow.exceptions import RestException

from car_or_truck.tracking import faults


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        ("(sqlite3.OperationalError) database is locked", "Another process writes to it: try again."),
        ("(sqlite3.OperationalError) database or disk is full", "Free some space on its disk."),
        ("attempt to write a readonly database", "Make it and its folder writable."),
        ("Detected out-of-date database schema (found version a). Take a backup", "run `mlflow db upgrade`"),
        ("Python int too large to convert to SQLite INTEGER", "SQLite INTEGER."),
        ("database disk image is malformed", "Move it away; `car-or-truck sync` then rebuilds"),
    ],
)
def test_only_a_broken_store_is_to_be_moved_away(says: str, remedy: str) -> None:
    words = str(faults.unusable(OSError(says), "sqlite:///mlflow.db"))
    assert remedy in words
    assert ("Move it away" in words) == ("malformed" in says)


def test_a_server_that_answers_is_not_to_be_started() -> None:
    refusal = RestException({"error_code": "INVALID_STATE", "message": "The run must be active."})
    message = "The MLflow store https://mlflow.example.org cannot be used: INVALID_STATE: The run must be active."
    assert str(faults.unusable(refusal, "https://mlflow.example.org")) == message
    assert str(faults.unusable(OSError("Connection refused"), "https://mlflow.example.org")).endswith(
        "Connection refused. Start its server, or unset MLFLOW_TRACKING_URI to use mlflow.db here."
    )
