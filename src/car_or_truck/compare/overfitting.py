"""How badly a net overfits, in words that follow from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from car_or_truck.compare import statistics
from car_or_truck.train.history import derive

# (word, gap of accuracies, rise of val_loss as a share of its lowest): the first that either reaches.
GRADES = (
    ("strong overfitting", 0.10, 0.50),
    ("clear overfitting", 0.05, 0.20),
    ("slight overfitting", 0.02, 0.05),
)
NONE = "no sign of overfitting"
LEGEND = (
    "Strong: the gap is at least 10 points, or val_loss ended at least 50 % above its lowest. Clear: 5 points or 20 %. "
    "Slight: 2 points or 5 %."
)


@dataclass(frozen=True)
class Overfitting:
    """Of one training. Epochs count from 1, accuracies are shares, losses are in nats."""

    epochs: int
    best_epoch: int  # highest val_binary_accuracy
    overfit_epoch: int  # lowest val_loss
    overfit_onset: int  # lowest running median of val_loss: statistics.smoothed_onset
    lowest: float  # val_loss
    rise: float  # of val_loss, from its lowest to the last epoch
    gap: float  # accuracy on train minus that on valid, in the last epoch
    kept_gap: float | None = None  # of the kept weights, without dropout; None where it was not measured
    collapsed: bool = False

    @property
    def grade(self) -> str:
        """One of GRADES' words, by the wider of the two gaps, or NONE."""
        widest = max(self.gap, self.kept_gap if self.kept_gap is not None else self.gap)
        for word, gap, share in GRADES:
            if widest >= gap or self.rise >= share * self.lowest:
                return word
        return NONE


def of_history(history: pd.DataFrame, kept_gap: float | None = None, collapsed: bool = False) -> Overfitting:
    """What a history (history.py) with at least one epoch says; see Overfitting for what is not in it."""
    derived = derive(history)
    return Overfitting(
        epochs=derived["epochs"],
        best_epoch=derived["best_epoch"],
        overfit_epoch=derived["overfit_epoch"],
        overfit_onset=statistics.smoothed_onset(history["val_loss"]),
        lowest=float(history["val_loss"].min()),
        rise=derived["overfit_rise"],
        gap=derived["generalization_gap"],
        kept_gap=kept_gap,
        collapsed=collapsed,
    )


def sentence(variant: str, found: Sequence[Overfitting]) -> str:
    """A plain sentence for a variant, over its seeds."""
    collapsed = [one for one in found if one.collapsed]
    if len(collapsed) == len(found):
        return f"{variant}: it gives the same answer to every image, so there is nothing that could overfit."
    trained = [one for one in found if not one.collapsed]
    name = f"{variant} ({len(trained)} seeds)" if len(trained) > 1 else variant
    left_out = f" ({_seeds(len(collapsed))} left out: one answer to every image)" if collapsed else ""
    return f"{name}: {_loss(trained)}; {_gap(trained)}: {_grades(trained)}{left_out}."


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _loss(found: Sequence[Overfitting]) -> str:
    if all(one.rise <= 0 for one in found):
        return f"its validation loss was lowest at the end ({_range([one.epochs for one in found])} epochs)"
    epochs, rises = [one.overfit_epoch for one in found], [one.rise for one in found]
    rise = f"{sum(rises) / len(rises):.2f}"
    spread = f" on average ({min(rises):.2f} to {max(rises):.2f})" if len(found) > 1 else ""
    where = "epoch" if len(set(epochs)) == 1 else "epochs"
    return f"its validation loss was lowest at {where} {_range(epochs)} and ended {rise} higher{spread}"


def _gap(found: Sequence[Overfitting]) -> str:
    gaps = [100 * one.gap for one in found]
    mean = sum(gaps) / len(gaps)
    spread = f" ({min(gaps):.1f} to {max(gaps):.1f})" if len(found) > 1 else ""
    words = f"it ends {_better(mean, ' points')} on train than on valid{spread}"
    kept = [100 * one.kept_gap for one in found if one.kept_gap is not None]
    if len(kept) == len(found) and abs(sum(kept) / len(kept) - mean) >= 1:
        words += f", {_better(sum(kept) / len(kept))} when the finished net answers to train again"
    return words


def _better(points: float, unit: str = "") -> str:
    return f"{abs(points):.1f}{unit} {'better' if points >= 0 else 'worse'}"


def _grades(found: Sequence[Overfitting]) -> str:
    order = [word for word, _, _ in GRADES] + [NONE]
    grades = sorted({one.grade for one in found}, key=order.index)
    if len(grades) == 1:
        return grades[0]
    least, most = grades[-1], grades[0]
    return f"{least.removesuffix(' overfitting')} to {most}"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"
