"""The report's tables: what a person compares first, all scores, and how each training overfitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from car_or_truck.compare import leaderboard
from car_or_truck.compare.leaderboard import ACCURACY, PARAMETERS, SEED, TEST, VARIANT, Column
from car_or_truck.compare.overfitting import severity


class Entry(NamedTuple):
    """What is shown, and what it is sorted by."""

    text: str
    value: Any


class Table(NamedTuple):
    """A table as the template draws it."""

    columns: list[Column]
    rows: list[list[Entry]]


GAP = Column(
    "gap",
    "{gap:z.1f}",
    "gap",
    "accuracy of the saved weights on train minus that on validation, in points; without dropout or augmentation",
)
GRADE = Column("overfits", "{grade}", "severity", "how badly")
RESULTS = (
    ACCURACY,
    GAP,
    GRADE,
    Column(
        "95% CI",
        "{low:.1f} to {high:.1f}%",
        "low",
        "Wilson interval of the accuracy; reflects the number of images, not seed variance",
    ),
    PARAMETERS,
    Column("mult-adds", "{millions:,.1f} M", "millions", "multiply-adds for one image, in millions"),
)
SCORES = (
    ACCURACY,
    TEST,
    Column("balanced", "{val_balanced_accuracy:.1%}", "val_balanced_accuracy", "mean of both classes' recalls"),
    Column("F1", "{val_f1:.1%}", "val_f1", "harmonic mean of precision and recall"),
    Column("ROC AUC", "{val_roc_auc:.1%}", "val_roc_auc", "share of pairs of both classes that are ranked correctly"),
    Column("AP", "{val_average_precision:.1%}", "val_average_precision", "average precision"),
    Column("calibration error", "{calibration:.1f}", "calibration", "expected, in points"),
    Column("log loss", "{val_loss:.3f}", "val_loss", "in nats"),
    Column("Brier", "{val_brier_score:.3f}", "val_brier_score", "mean squared error of the probability"),
)
OVERFITTING = (
    GAP,
    GRADE,
    Column("train", "{train_binary_accuracy:.1%}", "train_binary_accuracy", "accuracy of the saved weights on train"),
    Column(
        "training gap",
        "{training:z.1f}",
        "training",
        "train minus validation accuracy of the last epoch as Keras logs it, in points: with dropout and augmentation, "
        "and while the weights still change",
    ),
    Column("epochs", "{epochs:.0f}", "epochs"),
    Column("best accuracy at", "{best_epoch:.0f}", "best_epoch", "the epoch with the highest validation accuracy"),
    Column("lowest loss at", "{overfit_epoch:.0f}", "overfit_epoch", "the epoch with the lowest validation loss"),
    Column(
        "smoothed",
        "{overfit_onset:.0f}",
        "overfit_onset",
        "where the running median of the validation loss over five epochs was lowest, which ignores a noisy epoch",
    ),
    Column("rise", "{overfit_rise:.3f}", "overfit_rise", "final minus lowest validation loss, in nats"),
)


def tabulate(table: pd.DataFrame, columns: Sequence[Column], by: str) -> Table:
    """Those columns that comparison.csv has the fields of, the highest `by` first; the seed if there are several."""
    view = (
        leaderboard.view(table)
        .assign(
            severity=table["grade"].map(severity, na_action="ignore"),
            training=100 * table["training_gap"],
            calibration=100 * table["val_expected_calibration_error"],
            millions=table["multiply_adds"] / 1e6,
        )
        .sort_values(by, ascending=False, kind="stable")
    )
    named = [VARIANT, *[SEED] * (len(set(table["seed"])) > 1), *columns]
    shown_columns = [column for column in named if column.field in view.columns]
    return Table(shown_columns, [[_entry(column, row) for column in shown_columns] for row in view.to_dict("records")])


def _entry(column: Column, row: dict[str, Any]) -> Entry:
    value = row[column.field]
    if not pd.isna(value):
        return Entry(column.form.format(**row), value)
    return Entry("missing" if column is ACCURACY else "", -1e9)
