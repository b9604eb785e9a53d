from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from car_or_truck.train.history import COLUMNS, derive


def table(rows: list[tuple[float, float, float, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=COLUMNS[1:])
    frame.insert(0, "epoch", range(1, len(rows) + 1))
    return frame


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
    assert derived["best_val_binary_accuracy"] == max(val_accuracy)
    assert derived["overfit_epoch"] == 1 + val_loss.index(min(val_loss))
    assert derived["overfit_rise"] == val_loss[-1] - min(val_loss) >= 0
    assert np.isclose(derived["training_gap"], rows[-1][1] - rows[-1][3])
