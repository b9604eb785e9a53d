from __future__ import annotations

import subprocess
import sys

from car_or_truck.tracking.processes import is_gone, this_process


def shift_start(process: str, seconds: float) -> str:
    """The same name, of a process that began so many seconds later."""
    start, _, created = process.rpartition(":")
    return f"{start}:{float(created) + seconds:.2f}"


def test_this_process_lives_even_after_the_clock_was_set() -> None:
    for seconds in (0, 2, -2):
        assert not is_gone(shift_start(this_process(), seconds))


def test_a_process_whose_number_another_one_has_now_is_gone() -> None:
    assert is_gone(shift_start(this_process(), -3600))


def test_a_process_that_has_ended_is_gone_and_one_elsewhere_may_live() -> None:
    script = "from car_or_truck.tracking.processes import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert is_gone(ended)
    assert not is_gone(f"other-{ended}")
