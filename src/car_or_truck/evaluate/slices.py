"""Where a model is weak: its accuracy on slices of the validation set.

A slice is a part of the images (a class, or the lowest or highest third of a measure of the audit), or
a share of them, corrupted. `right` arrays are boolean, [seeds, images]: whether a prediction is correct.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact, t

from car_or_truck import paths
from car_or_truck.errors import Failure, summarize
from car_or_truck.evaluate.corruptions import MILD, STRONG
from car_or_truck.evaluate.scores import ALPHA, LEVEL, holm, mcnemar_exact, wilson
from car_or_truck.train.recipe import THRESHOLD

Right = NDArray[np.bool_]
ABOUT = (
    "slice.*: the saved weights on a part of validation, or on a corrupted share of it; largest_slice_drop: of the "
    "drops of accuracy that are significant after Holm's correction"
)
FEWEST = 10  # images in a slice, and outside of it
# What the lowest and the highest third of a measure are called
THIRDS = {
    "brightness": ("dark", "bright"),
    "contrast": ("low_contrast", "high_contrast"),
    "letterbox": ("less_letterbox", "more_letterbox"),  # the share of the square that is bars
    "cast": ("cold", "warm"),  # mean red minus mean blue
}


@dataclass(frozen=True)
class Slice:
    """How accurate a model, or a variant over its seeds, is on a slice; accuracies are shares.

    Intervals and p reflect the number of images, not seed variance: each model is compared with itself.
    """

    slice: str
    images: int
    accuracy: float
    low: float  # Wilson interval
    high: float
    drop: float  # how far it is below the accuracy on all images, or on the same images uncorrupted
    drop_low: float
    drop_high: float
    p: float  # two-sided, for no drop

    @classmethod
    def from_drop(cls, name: str, right: Right, drop: float, error: float, p: float | None) -> Slice:
        """A slice with its drop and the standard error of that; `p`: of an exact test, else that of a t-test."""
        images, accuracy = right.shape[1], float(right.mean())
        interval = wilson(round(accuracy * images), images)
        reach = error * float(t.ppf((1 + LEVEL) / 2, images - 1))
        if p is None:
            p = float(2 * t.sf(abs(drop) / error, images - 1))
        return cls(name, images, accuracy, *interval, drop, drop - reach, drop + reach, p)


def natural_slice(name: str, right: Right, inside: Right) -> Slice:
    """The images `inside` [images] against all; it is significant if they differ from the rest.

    With one seed, p is that of Fisher's exact test; with several, of a t-test of the means over seeds.
    """
    within, without = right[:, inside], right[:, ~inside]
    share = float((~inside).mean())  # the drop against all images is this share of the drop against the rest
    p = None
    if len(right) == 1:
        p = float(fisher_exact([[group.sum(), group.size - group.sum()] for group in (within, without)]).pvalue)
    error = share * (_variance(within, 0) + _variance(without, 0)) ** 0.5
    return Slice.from_drop(name, within, share * float(without.mean() - within.mean()), error, p)


def corrupted_slice(name: str, clean: Right, right: Right) -> Slice:
    """Corrupted images against the same images `clean`.

    With one seed, p is that of McNemar's exact test; with several, of a paired t-test of the means over seeds.
    """
    change = clean.astype(float) - right
    p = mcnemar_exact(clean[0], right[0]).p if len(right) == 1 else None
    return Slice.from_drop(name, right, float(change.mean()), _variance(change, -1) ** 0.5, p)


def _variance(values: NDArray[np.generic], worst: int) -> float:
    """The squared standard error of a mean over seeds and images, for another sample of images.

    With one image more of each extreme, 1 and `worst`, so that ten of ten are not certainty: Agresti and Caffo, "Simple
    and effective confidence intervals for proportions and differences ..." (2000).
    """
    means = np.append(values.mean(axis=0), [1, worst])
    return float(means.var(ddof=1) / means.size)


def all_slices(
    predictions: Sequence[pd.DataFrame], corrupted: Sequence[pd.DataFrame], inside: Mapping[str, Right]
) -> list[Slice]:
    """Every slice of a variant, from predictions.csv and corrupted.csv of each seed, and the `members` of its parts."""
    right = np.stack([_right(table, "probability") for table in predictions])
    slices = [natural_slice(name, right, images) for name, images in inside.items()]
    clean = right[:, pd.Index(predictions[0]["name"]).get_indexer(corrupted[0]["name"])]
    for name in corrupted[0].columns[2:]:
        slices.append(corrupted_slice(name, clean, np.stack([_right(table, name) for table in corrupted])))
    return slices


def _right(table: pd.DataFrame, column: str) -> Right:
    return np.asarray((table[column] > THRESHOLD) == (table["label"] == 1))


def model_slices(predictions: pd.DataFrame, corrupted: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """slices.csv: one row per slice, with p_corrected: p after Holm's correction for all slices of the model."""
    measures = read_measures(predictions["name"])
    inside = members(measures, predictions["label"].to_numpy(np.uint8), classes)
    table = pd.DataFrame(all_slices([predictions], [corrupted], inside))
    return table.assign(p_corrected=holm(table["p"]))


def slice_scores(table: pd.DataFrame) -> dict[str, float]:
    """Few scores of slices.csv: accuracies, without those under mild corruptions, and the largest significant drop."""
    rows = table[~table["slice"].isin(MILD)]
    accuracies = {
        f"slice.{name}.val_binary_accuracy": float(value) for name, value in rows[["slice", "accuracy"]].to_numpy()
    }
    drops = table.loc[table["p_corrected"] < ALPHA, "drop"]
    return {**accuracies, "largest_slice_drop": max([0.0, *drops])}


def read_measures(names: Iterable[str]) -> pd.DataFrame:
    """The audit's measures of validation images, by name and in the order of `names`; a Failure without them."""
    path = paths.AUDIT / "measures.csv"
    try:
        table = pd.read_csv(path)
        return table[table["split"] == "valid"].set_index("name").loc[list(names)]
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"{path} cannot be read ({summarize(error, 200)}). Run `dvc repro prepare`.") from None


def members(measures: pd.DataFrame, labels: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, Right]:
    """Which images [images] are in which slice: the classes, then the thirds of the measures.

    Images with the same value are in the same third, the one that their mean rank falls into. So thirds
    may differ in size, and a measure that most images share has one or none.
    """
    values = measures.assign(letterbox=1 - measures["content"], cast=measures["red"] - measures["blue"])
    inside = {name: labels == label for label, name in enumerate(class_slices(classes))}
    for measure, (lowest, highest) in THIRDS.items():
        rank = values[measure].rank(pct=True).to_numpy()
        inside |= {lowest: rank <= 1 / 3, highest: rank > 2 / 3}
    return {name: images for name, images in inside.items() if FEWEST <= images.sum() <= len(labels) - FEWEST}


def class_slices(classes: Sequence[str]) -> list[str]:
    """The slices of the classes: their names as [a-z0-9_], unless nothing is left of one, or another slice has it."""
    names = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in classes]
    others = {name for pair in THIRDS.values() for name in pair}
    return names if all(names) and len({*names} - others - {*MILD, *STRONG}) == 2 else ["class_0", "class_1"]
