from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_or_truck.train.history import COLUMNS, derive


def table(rows: list[tuple[float, float, float, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=COLUMNS[1:])
    frame.insert(0, "epoch", range(1, len(rows) + 1))
    return frame


def test_the_lessons_last_epochs_are_read_as_a_person_would() -> None:
    # epochs 29 to 31 and 50 of the exercise, as the lesson prints them, made consecutive here
    rows = [(0.3540, 0.8650, 0.4330, 0.8143), (0.3404, 0.8777, 0.4218, 0.8202), (0.33, 0.88, 0.4300, 0.8190)]
    derived = derive(table([*rows, (0.0600, 0.9803, 0.7014, 0.8517)]))
    assert derived["overfit_epoch"] == 2
    assert derived["overfit_rise"] == pytest.approx(0.2796)
    assert derived["training_gap"] == pytest.approx(0.1286)
    assert (derived["best_epoch"], derived["best_val_binary_accuracy"]) == (4, 0.8517)


def test_the_first_epoch_wins_a_tie() -> None:
    derived = derive(table([(1, 0.5, 0.7, 0.6), (1, 0.5, 0.7, 0.6)]))
    assert (derived["best_epoch"], derived["overfit_epoch"], derived["overfit_rise"]) == (1, 1, 0)


share = st.floats(0, 1)
loss = st.floats(0, 100)


@given(st.lists(st.tuples(loss, share, loss, share), min_size=1, max_size=20))
def test_derived_metrics_agree_with_plain_counting(rows: list[tuple[float, float, float, float]]) -> None:
    derived = derive(table(rows))
    val_loss, val_accuracy = [row[2] for row in rows], [row[3] for row in rows]
    assert derived["epochs"] == len(rows)
    assert derived["best_epoch"] == 1 + val_accuracy.index(max(val_accuracy))
    assert derived["overfit_epoch"] == 1 + val_loss.index(min(val_loss))
    assert derived["overfit_rise"] == val_loss[-1] - min(val_loss) >= 0
    assert np.isclose(derived["training_gap"], rows[-1][1] - rows[-1][3])
