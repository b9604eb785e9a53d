"""What a training history says: derived metrics, as pure functions of its table.

A history has one row an epoch and the columns epoch (from 1), loss, binary_accuracy, val_loss and
val_binary_accuracy, as Keras names them.
"""

from __future__ import annotations

from typing import TypedDict

import pandas as pd

METRICS = ["loss", "binary_accuracy", "val_loss", "val_binary_accuracy"]
COLUMNS = ["epoch", *METRICS]


class Derived(TypedDict):
    """Epochs count from 1, accuracies are shares, losses are binary cross-entropy in nats."""

    epochs: int
    best_epoch: int  # highest val_binary_accuracy, the first if tied
    best_val_binary_accuracy: float
    final_binary_accuracy: float
    final_val_binary_accuracy: float
    training_gap: float  # final binary_accuracy - final val_binary_accuracy, as the learning curves show it
    overfit_epoch: int  # lowest val_loss: the validation loss never went below it again
    overfit_rise: float  # final val_loss - lowest val_loss


def derive(history: pd.DataFrame) -> Derived:
    """The derived metrics of a history with at least one epoch."""
    best = history["val_binary_accuracy"].idxmax()
    lowest = history["val_loss"].idxmin()
    final = history.iloc[-1]
    return {
        "epochs": len(history),
        "best_epoch": int(history.loc[best, "epoch"]),
        "best_val_binary_accuracy": float(history.loc[best, "val_binary_accuracy"]),
        "final_binary_accuracy": float(final["binary_accuracy"]),
        "final_val_binary_accuracy": float(final["val_binary_accuracy"]),
        "training_gap": float(final["binary_accuracy"] - final["val_binary_accuracy"]),
        "overfit_epoch": int(history.loc[lowest, "epoch"]),
        "overfit_rise": float(final["val_loss"] - history.loc[lowest, "val_loss"]),
    }
