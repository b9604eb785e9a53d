from __future__ import annotations

import numpy as np

from car_or_truck.compare import calibration


def test_several_seeds_are_no_more_images() -> None:
    rng = np.random.default_rng(0)
    labels, probability = rng.integers(0, 2, 500).astype(np.uint8), rng.random(500)
    alone = calibration._bins(labels, probability, 1)
    together = calibration._bins(np.tile(labels, 5), np.tile(probability, 5), 5)
    assert alone[2].sum() > 400
    for one, five in zip(alone, together, strict=True):
        np.testing.assert_allclose(five, one)
