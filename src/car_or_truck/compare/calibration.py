"""How well each model's probabilities rank the classes, and agree with frequencies: own, and with a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from car_or_truck import drawing
from car_or_truck.cells.results import Result
from car_or_truck.compare import figures
from car_or_truck.evaluate.calibration import cross_fitted
from car_or_truck.evaluate.figures import FEWEST
from car_or_truck.evaluate.scores import reliability_bins, wilson
from car_or_truck.train.recipe import THRESHOLD


def reliability(results: Sequence[Result], table: pd.DataFrame, looks: figures.Styles, path: Path) -> None:
    """Share of the second class over its predicted probability, one line per variant, over the images of all its seeds.

    Dotted: as the models give it; solid: calibrated, with 95% CI. Bins of few images are left out; of
    many variants, the first of `looks` are shown. `table` is comparison.csv.
    """
    variants = list(looks)[: figures.MOST_TOGETHER]
    errors = ["val_expected_calibration_error", "calibrated_expected_calibration_error"]
    means = table.groupby("variant")[errors].mean().loc[variants]
    best = (means[errors[0]] - means[errors[1]]).idxmax()
    before, after = means.loc[best]
    title = "A temperature lowers no calibration error" + f" of these {len(variants)}" * (len(looks) > len(variants))
    if round(100 * before, 1) > round(100 * after, 1):
        title = f"A temperature lowers the calibration error of {best}"
        title += f" from {100 * before:.1f} to {100 * after:.1f} points"
    with drawing.canvas(path, *figures.SIZE) as (sheet, (axes,)):
        axes.axline((0, 0), slope=1, color="#888888", linewidth=1)
        for variant in variants:
            models, colour = [result for result in results if result.variant == variant], looks[variant]["color"]
            labels = np.concatenate([model.labels for model in models])
            own = np.concatenate([model.probability for model in models])
            calibrated = np.concatenate([cross_fitted(model.labels, model.probability) for model in models])
            bins = _bins(labels, own, len(models))
            axes.plot(bins["predicted"], bins["observed"], linestyle=":", color=colour)
            bins = _bins(labels, calibrated, len(models))
            ends = [wilson(round(row.observed * row.images), row.images) for row in bins.itertuples()]
            axes.vlines(bins["predicted"], *np.reshape(ends, (-1, 2)).T, color=colour, linewidth=1)
            axes.plot(bins["predicted"], bins["observed"], label=variant, **looks[variant])
        axes.set(
            title=title,
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="probability of the second class (dotted: before)",
        )
        axes.set_ylabel("share of the second class, 95% CI")
        figures.legend(sheet, axes)


def _bins(labels: NDArray[np.uint8], probability: NDArray[np.float64], seeds: int) -> pd.DataFrame:
    """The bins with enough images, of which each was predicted by all `seeds`."""
    bins = reliability_bins(labels, probability)
    images = (bins["images"] / seeds).round().astype(int)
    return bins.assign(images=images)[images >= FEWEST]


def roc(results: Sequence[Result], looks: figures.Styles, path: Path) -> None:
    """The receiver operating characteristic of the models, a colour a variant; the dots are at the threshold."""
    areas = pd.Series([float(result.scores["val_roc_auc"]) for result in results])
    means = areas.groupby([result.variant for result in results], sort=False).mean()
    best = means.index[means.round(6) == round(means.max(), 6)]
    lead = f"{best[0]} has" if len(best) == 1 else f"{len(best)} variants have"
    title = f"{lead} {'the largest area' if len(means) > 1 else 'an area'} under the curve: {means.max():.3f}"
    with drawing.canvas(path, *figures.SIZE) as (sheet, (axes,)):
        axes.axline((0, 0), slope=1, color="#888888", linewidth=1)
        for variant, look in looks.items():
            for place, result in enumerate(result for result in results if result.variant == variant):
                axes.plot(*roc_curve(result.labels, result.probability)[:2], color=look["color"], linewidth=1)
                predicted = result.probability > THRESHOLD
                rates = [predicted[result.labels == label].mean() for label in (0, 1)]
                axes.plot(*rates, linestyle="", label=None if place else variant, **look)
        axes.set(title=title, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        figures.legend(sheet, axes)
