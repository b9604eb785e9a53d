"""How well probabilities agree with frequencies after one temperature, as pure functions of labels and probabilities.

`labels` are 0 or 1 and `probability` is that of label 1, both [images].
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from car_or_truck.evaluate.reliability import Floats, tempered
from car_or_truck.evaluate.scores import Labels, expected_calibration_error, log_loss

HOTTEST = 20.0  # temperatures are sought between this and its inverse: where all answers are wrong, none is best


def temperature(labels: Labels, probability: Floats) -> float:
    """The temperature of the lowest log loss. Guo et al. (2017), On Calibration of Modern Neural Networks.

    Where no answer is wrong it is 1: any colder one would be better still, and nothing tells how sure to be.
    """
    if not ((labels - 0.5) * (probability - 0.5) < 0).any():
        return 1.0
    bounds = (-np.log(HOTTEST), np.log(HOTTEST))
    optimum = minimize_scalar(lambda log: log_loss(labels, tempered(probability, np.exp(log))), bounds=bounds)
    return float(np.exp(optimum.x))


def cross_fitted(labels: Labels, probability: Floats) -> Floats:
    """Calibrated probabilities, each by the temperature of the other half of the images.

    So no image is judged by a temperature that was fitted to it. The halves alternate within the classes.
    """
    half = np.argsort(np.argsort(labels, kind="stable")) % 2
    calibrated = np.empty(len(labels))
    for judged in (0, 1):
        fold, other = half == judged, half != judged
        calibrated[fold] = tempered(probability[fold], temperature(labels[other], probability[other]))
    return calibrated


def calibration_scores(labels: Labels, probability: Floats) -> dict[str, float]:
    """The temperature of all images, and what cross-fitted temperatures make of loss and calibration error."""
    calibrated = cross_fitted(labels, probability)
    return {
        "temperature": temperature(labels, probability),
        "calibrated_loss": log_loss(labels, calibrated),
        "calibrated_expected_calibration_error": expected_calibration_error(labels, calibrated),
    }


def nonconformity(labels: Labels, probability: Floats) -> Floats:
    """1 - P(true class), ascending: [images]."""
    return np.sort(np.where(labels == 1, 1 - probability, probability))
