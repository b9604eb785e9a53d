"""How badly a model overfits, in words that follow from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from car_or_truck.cells.results import Result
from car_or_truck.evaluate.scores import rise_text

# (grade, generalization gap, rise of val_loss as a share of its lowest): the first that either number reaches.
# They grade the saved weights, so the rise is that until their epoch; one below LEAST_RISE is none.
LEAST_RISE = 0.01  # nats
GRADES = (("strong", 0.10, 0.50), ("clear", 0.05, 0.20), ("slight", 0.02, 0.05))
NONE, COLLAPSED = "none", "collapsed"
MILDEST_FIRST = (COLLAPSED, NONE, *(grade for grade, _, _ in reversed(GRADES)))
LEGEND = (
    "Strong: a gap of at least 10 points, or saved weights whose val_loss is at least 50% above the lowest. Clear: 5 "
    f"points or 20%. Slight: 2 points or 5%. A rise of less than {LEAST_RISE} nats does not count."
)
WORST = "overfits most"
MOST = 5  # variants in the verdict


@dataclass(frozen=True)
class Overfitting:
    """Of one training. Epochs count from 1, accuracies are shares, losses are in nats."""

    overfit_epoch: int  # of the lowest val_loss
    lowest: float  # val_loss
    rise: float  # of val_loss, from its lowest to the last epoch
    gap: float  # generalization_gap: accuracy of the saved weights on train minus that on validation
    kept_rise: float  # of val_loss, from its lowest to the epoch whose weights were saved
    collapsed: bool = False

    @classmethod
    def from_result(cls, result: Result) -> Overfitting:
        """How badly a trained and evaluated model overfits."""
        scores, losses = result.scores, result.history["val_loss"]
        return cls(
            overfit_epoch=scores["overfit_epoch"],
            lowest=float(losses.min()),
            rise=scores["overfit_rise"],
            gap=scores["generalization_gap"],
            kept_rise=float(losses.iloc[scores["kept_epoch"] - 1] - losses.min()),
            collapsed=scores["collapsed"],
        )

    @property
    def grade(self) -> str:
        """One of MILDEST_FIRST."""
        rise = self.kept_rise if self.kept_rise >= LEAST_RISE else -1.0
        rounded_gap = round(self.gap, 3)  # as in tables: "10.0 points" are 10
        reached = (grade for grade, gap, share in GRADES if rounded_gap >= gap or rise >= share * self.lowest)
        return COLLAPSED if self.collapsed else next(reached, NONE)


@dataclass(frozen=True)
class Gap:
    """The mean gap of a variant's seeds, without collapsed ones."""

    variant: str
    gap: float
    grade: str  # "slight to strong" if its seeds differ


def widest_gaps(variants: Mapping[str, Sequence[Overfitting]]) -> list[Gap]:
    """The variants by their gaps, the widest first."""
    trained = {name: [case for case in cases if not case.collapsed] for name, cases in variants.items()}
    gaps = [Gap(name, fmean(case.gap for case in cases), _grades(cases)) for name, cases in trained.items() if cases]
    return sorted(gaps, key=lambda item: -item.gap)


def verdict(gaps: Sequence[Gap]) -> str:
    """Which variant overfits most, and how far the others do; `gaps` has the widest first."""
    if not gaps:
        return "Every model collapsed to one answer for every image, so there is nothing to overfit."
    widest, *others = gaps
    line = f"{headline(gaps)} {100 * widest.gap:z.1f} points between train and validation accuracy ({widest.grade})."
    if others:
        line += f" {', '.join(f'{item.variant} {100 * item.gap:z.1f} ({item.grade})' for item in others[:MOST])}"
        line += f", and {len(others) - MOST} more below." if len(others) > MOST else "."
    return line


def headline(gaps: Sequence[Gap]) -> str:
    """How the sentence on the variant with the widest gap starts."""
    if len(gaps) == 1:
        return f"{gaps[0].variant} has a gap of"
    verb = lead(gaps)
    return f"{gaps[0].variant} {verb}:{' a gap of' if verb == WORST else ''}"


def lead(gaps: Sequence[Gap]) -> str:
    """What the variant with the widest gap does: WORST, unless its grade is milder than another's, by the loss."""
    ranks = [severity(item.grade.rpartition(" ")[2]) for item in gaps]  # of the worst of its seeds
    worst = gaps[0].gap > 0 and ranks[0] == max(ranks) > 0
    return WORST if worst else f"has the {'widest' if gaps[0].gap >= 0 else 'highest'} gap"


def severity(grade: str) -> int:
    """A grade as a number: 3 strong, 2 clear, 1 slight, 0 none, -1 collapsed."""
    return MILDEST_FIRST.index(grade) - 1


def sentence(variant: str, cases: Sequence[Overfitting]) -> str:
    """A variant's overfitting over its seeds, in a sentence."""
    trained = [case for case in cases if not case.collapsed]
    collapsed = len(cases) - len(trained)
    if not trained:
        return f"{variant}: it collapsed to one answer for every image, so there is nothing to overfit."
    name = f"{variant} ({len(trained)} seeds)" if len(trained) > 1 else variant
    left_out = f" ({collapsed} collapsed {'seed' if collapsed == 1 else 'seeds'} left out)" if collapsed else ""
    note = ", of the saved weights" if any(case.kept_rise < case.rise for case in trained) else ""
    grades = _grades(trained)
    extent = "no sign of" if grades == NONE else grades
    return f"{name}: {extent} overfitting{note}: {_gap(trained)}; {_loss(trained)}{left_out}."


def rise_sentence(epoch: int | str, rise: float) -> str:
    """Where the validation loss was lowest, and how far it rose since."""
    if rise <= 0:
        return f"validation loss ended at its lowest (epoch {epoch})"
    return f"validation loss was lowest at epoch {epoch} and then rose by {rise_text(rise)}"


def _loss(cases: Sequence[Overfitting]) -> str:
    epochs, rises = sorted({case.overfit_epoch for case in cases}), [case.rise for case in cases]
    where = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else epochs[0]
    several = len(cases) > 1 and max(rises) > 0
    spread = f" on average ({rise_text(min(rises))} to {rise_text(max(rises))})" if several else ""
    return rise_sentence(where, fmean(rises)) + spread


def _gap(cases: Sequence[Overfitting]) -> str:
    gaps = [100 * case.gap for case in cases]
    mean = fmean(gaps)
    spread = f" ({min(gaps):z.1f} to {max(gaps):z.1f})" if len(cases) > 1 else ""
    return f"train accuracy is {abs(mean):.1f} points {'above' if round(mean, 1) >= 0 else 'below'} validation{spread}"


def _grades(cases: Sequence[Overfitting]) -> str:
    grades = sorted((case.grade for case in cases), key=severity)
    return " to ".join(dict.fromkeys([grades[0], grades[-1]]))
