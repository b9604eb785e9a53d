"""`ui`, as far as it does not start: tests/tracking/test_browser.py starts it."""

from __future__ import annotations

import os
import re
import socket

import pytest

from car_or_truck.commands import ui
from car_or_truck.errors import Failure
from car_or_truck.tracking import store
from helpers.stores import Store


def test_a_port_that_is_taken_is_named_with_another(small_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Failure, match=re.escape(f"Port {port} is taken.")):
            ui.ui(port)
    assert capsys.readouterr().out == ""  # an address would be that of something else


def test_a_tracking_servers_own_ui_is_named_and_none_is_started(
    small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "server", lambda: "https://me:secret@mlflow.example.org")
    monkeypatch.setattr(store, "open_store", lambda: small_store.client)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it started one"))
    ui.ui(5000)
    assert capsys.readouterr().out == "https://***@mlflow.example.org\n"
