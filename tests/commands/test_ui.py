"""`ui`, as far as it does not start: tests/tracking/test_browser.py starts it."""

from __future__ import annotations

import re
import socket

import pytest

from car_or_truck.commands import ui
from car_or_truck.errors import Failure
from helpers.stores import Store


def test_a_port_that_is_taken_is_named_with_another(small_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Failure, match=re.escape(f"Port {port} is taken.")):
            ui.ui(port)
    assert capsys.readouterr().out == ""  # an address would be that of something else
