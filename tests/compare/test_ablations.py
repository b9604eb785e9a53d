from __future__ import annotations

import pandas as pd
import pytest

from car_or_truck import params
from car_or_truck.compare.ablations import one_change, sentences
from helpers.clones import ROOT

VARIANTS = params.load(ROOT / "params.yaml").variants


@pytest.mark.parametrize(
    ("heir", "change"),
    [
        ("exercise-no-dropout", ("head.dropout", "0.2", "0.0")),
        ("exercise-more-dropout", ("head.dropout", "0.2", "0.5")),
        ("exercise-one-conv", ("blocks", "32 64 128x2", "32 64 128")),
        ("exercise-prose", ("blocks", "32 64 128x2", "32 64x2 128x3")),
        ("four-blocks", ("blocks", "32 64 128x2", "32 64 128 256")),
        ("tutorial", None),
        ("exercise", None),
    ],
)
def test_the_shipped_ablations_change_one_thing_each(heir: str, change: tuple[str, str, str] | None) -> None:
    assert one_change(VARIANTS["exercise"], VARIANTS[heir]) == change


def test_a_change_is_told_with_what_it_did_over_the_seeds_of_both() -> None:
    rows = [
        ("exercise", 1, 0.80, 0.10),
        ("exercise", 2, 0.82, 0.12),
        ("exercise", 3, 0.99, 0.99),  # the heir has no such seed
        ("exercise-more-dropout", 1, 0.81, 0.04),
        ("exercise-more-dropout", 2, 0.84, 0.05),
        ("tutorial", 1, 0.70, 0.30),
    ]
    table = pd.DataFrame(rows, columns=["variant", "seed", "val_binary_accuracy", "generalization_gap"])
    assert sentences(table, VARIANTS) == [
        "exercise-more-dropout is exercise with head.dropout 0.5 instead of 0.2: accuracy +1.5 points, "
        "gap -6.5 points (mean of 2 seeds)."
    ]
    alone = sentences(table[table["seed"] == 1], VARIANTS)
    assert alone[0].endswith("accuracy +1.0 points, gap -6.0 points (one seed: it may be chance).")
