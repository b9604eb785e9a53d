"""How well each model's probabilities agree with frequencies, as they come and with a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.calibration import calibration_curve

from car_or_truck import drawing
from car_or_truck.cells.results import Result
from car_or_truck.compare import figures
from car_or_truck.evaluate.calibration import calibration_scores, cross_fitted
from car_or_truck.evaluate.scores import BINS, calibration_bins, expected_calibration_error, log_loss


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


def reliability(results: Sequence[Result], looks: figures.Styles, path: Path) -> None:
    """Share of the second class over its predicted probability, a line a variant, over the images of all its seeds.

    Dotted: as the models give it; solid: calibrated, with a dot whose area grows with its images.
    """
    rows = table(results)
    gains = [row["expected_calibration_error"] - row["calibrated_expected_calibration_error"] for row in rows]
    best = rows[int(np.argmax(gains))]
    before, after = best["expected_calibration_error"], best["calibrated_expected_calibration_error"]
    title = "A temperature lowers no calibration error"
    if max(gains) > 0:
        title = f"Calibration error of {best['variant']}: {before:.3f}, with a temperature {after:.3f}"
    with drawing.canvas(path, *figures.SIZE) as (sheet, (axes,)):
        axes.axline((0, 0), slope=1, color="#888888", linewidth=1)
        for variant, look in looks.items():
            models = [result for result in results if result.variant == variant]
            labels = np.concatenate([model.labels for model in models])
            own = np.concatenate([model.probability for model in models])
            calibrated = np.concatenate([cross_fitted(model.labels, model.probability) for model in models])
            observed, predicted = calibration_curve(labels, own.clip(0, 1), n_bins=BINS)
            axes.plot(predicted, observed, linestyle=":", color=look["color"])
            observed, predicted = calibration_curve(labels, calibrated, n_bins=BINS)
            counts = np.bincount(calibration_bins(calibrated), minlength=BINS)
            axes.plot(predicted, observed, color=look["color"])
            areas = 12 + 200 * counts[counts > 0] / counts.sum()
            axes.scatter(predicted, observed, areas, color=look["color"], marker=look["marker"], label=variant)
        axes.set(title=title, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set(xlabel="probability of the second class", ylabel="its share (dotted: own probability)")
        figures.legend(sheet, axes)
