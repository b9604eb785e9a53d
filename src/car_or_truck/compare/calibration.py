"""How well each model's probabilities rank the classes, and agree with frequencies: own, and with a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from car_or_truck import drawing
from car_or_truck.cells.results import Result
from car_or_truck.compare import figures
from car_or_truck.evaluate.calibration import calibration_scores, cross_fitted
from car_or_truck.evaluate.figures import FEWEST
from car_or_truck.evaluate.scores import BINS, calibration_bins, expected_calibration_error, log_loss, wilson
from car_or_truck.train.recipe import THRESHOLD


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row a model: its temperature, and its loss and calibration error on validation, own and cross-fitted."""
    return [
        {
            "variant": result.variant,
            "seed": result.seed,
            "loss": log_loss(result.labels, result.probability),
            "expected_calibration_error": expected_calibration_error(result.labels, result.probability),
            **calibration_scores(result.labels, result.probability),
        }
        for result in results
    ]


def reliability(results: Sequence[Result], rows: Sequence[dict[str, Any]], looks: figures.Styles, path: Path) -> None:
    """Share of the second class over its predicted probability, a line a variant, over the images of all its seeds.

    Dotted: as the models give it; solid: calibrated, with 95% CI. Bins of few images are left out; of
    many variants, the first of `looks` are shown. `rows` is `table` of the results.
    """
    shown = list(looks)[: figures.MOST_TOGETHER]
    errors = ["expected_calibration_error", "calibrated_expected_calibration_error"]
    means = pd.DataFrame(rows).groupby("variant")[errors].mean().loc[shown]
    best = (means[errors[0]] - means[errors[1]]).idxmax()
    before, after = means.loc[best]
    title = "A temperature lowers no calibration error"
    if before > after:
        title = f"A temperature lowers the calibration error of {best}"
        title += f" from {100 * before:.1f} to {100 * after:.1f} points"
    with drawing.canvas(path, *figures.SIZE) as (sheet, (axes,)):
        axes.axline((0, 0), slope=1, color="#888888", linewidth=1)
        for variant in shown:
            models, colour = [result for result in results if result.variant == variant], looks[variant]["color"]
            labels = np.concatenate([model.labels for model in models])
            own = np.concatenate([model.probability for model in models])
            calibrated = np.concatenate([cross_fitted(model.labels, model.probability) for model in models])
            predicted, observed, _ = _bins(labels, own, len(models))
            axes.plot(predicted, observed, linestyle=":", color=colour)
            predicted, observed, images = _bins(labels, calibrated, len(models))
            ends = [wilson(round(share * n), n) for share, n in zip(observed, images, strict=True)]
            axes.vlines(predicted, *np.reshape(ends, (-1, 2)).T, color=colour, linewidth=1)
            axes.plot(predicted, observed, label=variant, **looks[variant])
        axes.set(
            title=title,
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="probability of the second class (dotted: before)",
        )
        axes.set_ylabel("share of the second class, 95% CI")
        figures.legend(sheet, axes)


def _bins(labels: NDArray[np.uint8], probability: NDArray[np.float64], seeds: int) -> tuple[NDArray[Any], ...]:
    """Of each bin with enough images: mean probability, share of label 1, images; all `seeds` predict each image."""
    place = calibration_bins(probability)
    counts = np.bincount(place, minlength=BINS)
    images = np.round(counts / seeds).astype(int)
    enough = images >= FEWEST
    sums = [np.bincount(place, values, BINS)[enough] for values in (probability, labels)]
    return (*(values / counts[enough] for values in sums), images[enough])


def roc(results: Sequence[Result], looks: figures.Styles, path: Path) -> None:
    """The receiver operating characteristic of the models, a colour a variant; the dots are at the threshold."""
    areas = pd.Series([float(result.scores["val_roc_auc"]) for result in results])
    means = areas.groupby([result.variant for result in results], sort=False).mean()
    title = f"{means.idxmax()} has the largest area under the curve: {means.max():.3f}"
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
