"""How far from its training images a model's features of other pictures lie, and from where on that is unusual."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.covariance import LedoitWolf
from threadpoolctl import threadpool_limits

from car_or_truck.evaluate.reliability import TYPICAL, Floats, conformal_quantile, distances


def fit(train: Floats, valid: Floats) -> dict[str, Any]:
    """`centre`, `whitening` and `limit` of a Reliability, for the features [images, d] of both splits.

    Mahalanobis distance by a shrunk covariance (Ledoit and Wolf 2004), as for unusual inputs in Lee et al. (2018), but
    with one centre for both classes. Validation, which the covariance was not fitted to, sets the limit.
    """
    with threadpool_limits(1, "blas"):  # the number of BLAS's threads, which others may set, decides the last bits
        normal = LedoitWolf().fit(train)
        values, vectors = np.linalg.eigh(normal.precision_)
        centre, whitening = (part.astype(np.float32) for part in (normal.location_, vectors * np.sqrt(values.clip(0))))
        limit = conformal_quantile(np.sort(distances(valid, centre, whitening)), TYPICAL)
    return {"centre": centre, "whitening": whitening, "limit": limit}
