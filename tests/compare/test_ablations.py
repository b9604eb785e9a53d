from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from car_or_truck.compare.ablations import sentences, single_change
from helpers.nets import PLAIN, VARIANTS, recipe

EXERCISE = VARIANTS["exercise"]


@pytest.mark.parametrize(
    ("heir", "change"),
    [
        ("exercise-no-dropout", "head.dropout 0.0 instead of 0.2"),
        ("exercise-more-dropout", "head.dropout 0.5 instead of 0.2"),
        ("exercise-one-conv", "convs 1 instead of 2 in block 3"),
        ("exercise-prose", None),  # two of its blocks have more convolutions
        ("four-blocks", None),  # a block more, and one convolution less
        ("tutorial", None),
        ("exercise", None),
    ],
)
def test_the_shipped_ablations_change_one_setting_each(heir: str, change: str | None) -> None:
    assert single_change(EXERCISE, VARIANTS[heir]) == change


BLOCKS: list[dict[str, Any]] = [{"filters": 4}, {"filters": 8}]


@pytest.mark.parametrize(
    ("blocks", "change"),
    [
        ([*BLOCKS, {"filters": 16, "convs": 2}], "one more block (2x 16 of 3x3)"),
        ([{"filters": 2}, *BLOCKS], "one more block (2 of 3x3)"),
        (BLOCKS[:1], "one block less (8 of 3x3)"),
        ([BLOCKS[0], {"filters": 16}], "filters 16 instead of 8 in block 2"),
        ([BLOCKS[1], BLOCKS[1]], "filters 8 instead of 4 in block 1"),  # like its neighbour
        ([BLOCKS[0] | {"batch_norm": True}, BLOCKS[1]], "batch_norm True instead of False in block 1"),
        ([BLOCKS[0], {"filters": 16, "kernel_size": 5}], None),
        ([{"filters": 5}, {"filters": 9}], None),
        ([{"filters": 5}], None),
        ([*BLOCKS, *BLOCKS], None),
        (BLOCKS[::-1], None),
        (BLOCKS, None),
    ],
)
def test_a_list_of_blocks_is_not_one_setting(blocks: list[dict[str, Any]], change: str | None) -> None:
    assert single_change(recipe(blocks=BLOCKS), recipe(blocks=blocks)) == change


@pytest.mark.parametrize(
    ("changes", "change"),
    [
        ({"augment": {"flip": True}}, "augment.flip True instead of False"),
        ({"schedule": {"name": "cosine"}}, "schedule.name cosine instead of constant"),
        ({"class_weight": "balanced"}, "class_weight balanced instead of none"),
        ({"optimizer": PLAIN["optimizer"] | {"epsilon": 0.1}}, "optimizer.epsilon 0.1 instead of none"),
        ({"head": {"units": [3, 3]}}, "head.units 3; 3 instead of 3"),
        ({"head": {}}, "head.units none instead of 3"),
        ({"augment": {"flip": True}, "epochs": 3}, None),
        ({"early_stopping": {"patience": 5}}, "early_stopping patience 5, monitor val_loss instead of none"),
    ],
)
def test_a_default_that_is_changed_is_named(changes: dict[str, Any], change: str | None) -> None:
    assert single_change(recipe(), recipe(**changes)) == change


ROWS = [
    ("exercise", 1, 0.80, 0.10),
    ("exercise", 2, 0.82, 0.12),
    ("exercise", 3, 0.99, 0.99),  # the heir has no such seed
    ("exercise-more-dropout", 1, 0.81, 0.04),
    ("exercise-more-dropout", 2, 0.84, 0.05),
    ("tutorial", 1, 0.70, 0.30),
]
TABLE = pd.DataFrame(ROWS, columns=["variant", "seed", "val_binary_accuracy", "generalization_gap"])
COMPARED = {name: VARIANTS[name] for name in ("tutorial", "exercise", "exercise-more-dropout")}
INTERVALS = {("exercise", "exercise-more-dropout"): (-0.44, 3.0), ("exercise-more-dropout", "exercise"): (-3.0, 0.44)}


def test_a_change_is_told_with_what_it_did_over_the_seeds_of_both() -> None:
    change = "exercise-more-dropout is exercise with head.dropout 0.5 instead of 0.2: "
    unequal = sentences(TABLE, COMPARED, INTERVALS)  # the interval is of other seeds, so it is not shown
    assert unequal == [f"{change}accuracy +1.5 points, gap -6.5 points (mean of 2 shared seeds)."]
    equal = sentences(TABLE[TABLE["seed"] < 3], COMPARED, INTERVALS)
    assert equal == [f"{change}accuracy +1.5 points (95% CI -0.4 to +3.0), gap -6.5 points (mean of 2 shared seeds)."]
    alone = sentences(TABLE[TABLE["seed"] == 1], COMPARED, {})
    assert alone == [f"{change}accuracy +1.0 points, gap -6.0 points (of seed 1 alone: it may be chance)."]
    assert sentences(TABLE[TABLE["variant"] != "exercise"], COMPARED, {}) == []
