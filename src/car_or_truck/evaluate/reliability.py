"""How far an answer can be relied on: what `evaluate` measured on validation, and how a served model applies it.

Shipped inside every logged model, so it imports nothing else of the project, and needs NumPy and Keras alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

TYPICAL = 0.99  # the share of validation images that count as like the training images
FEWEST = 99  # validation images that can tell what one in a hundred is: with fewer, no picture is called unlike
UNLIKE = f"unlike the training images: farther from them than {TYPICAL:.0%} of the validation images"
CLIP = 1e-7  # probabilities are clipped to this before their logarithm is taken

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Reliability:
    """Of one model. `n` are validation images, `d` features."""

    temperature: float  # log-odds are divided by it
    nonconformity: Floats  # 1 - P(true class) of the validation images, ascending: [n]
    centre: Floats  # mean features of the training images: [d]
    whitening: Floats  # what makes the covariance of these features the identity: [d, d]
    limit: float  # the distance from the centre beyond which a picture is unlike the training images

    def confidence(self, probability: Floats) -> Floats:
        """The calibrated probability of the predicted class, for P(second class): [images]."""
        calibrated = tempered(probability, self.temperature)
        return np.maximum(calibrated, 1 - calibrated)

    def prediction_sets(self, probability: Floats, coverage: float) -> NDArray[np.bool_]:
        """Whether each class is in an image's prediction set, [images, 2]; a set holds one class, both, or none.

        For pictures like the validation images, the true class is in the set with probability `coverage` or more.
        Split-conformal prediction: Vovk et al. (2005); Angelopoulos and Bates (2023), section 1.
        """
        limit = conformal_quantile(self.nonconformity, coverage)
        return np.stack([probability, 1 - probability], axis=1) <= limit

    def unlike(self, features: Floats) -> NDArray[np.bool_]:
        """Whether pictures with these features [images, d] are unlike the training images."""
        return distances(features, self.centre, self.whitening) > self.limit

    def save(self, path: Path) -> None:
        """Write it as .npz; the same numbers give the same bytes."""
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """What `save` wrote; None when there is no such file, or other code wrote it."""
        try:
            with path.open("rb") as file, np.load(file) as saved:
                return cls(**{field.name: saved[field.name][()] for field in fields(cls)})
        except (OSError, ValueError, KeyError, BadZipFile):
            return None


def tempered(probability: Floats, temperature: float) -> Floats:
    """Probabilities after their log-odds were divided by `temperature`; 0.5 stays what it is."""
    clipped = np.clip(np.asarray(probability, np.float64), CLIP, 1 - CLIP)
    return 1 / (1 + (1 / clipped - 1) ** (1 / temperature))


def conformal_quantile(scores: Floats, share: float) -> float:
    """What a new score does not exceed with probability `share` or more; `scores` [n], ascending, are its peers.

    The ceil((n + 1) share)-th of them; infinite if there are too few.
    """
    rank = int(np.ceil((len(scores) + 1) * share))
    return float(scores[rank - 1]) if rank <= len(scores) else np.inf


def distances(features: Floats, centre: Floats, whitening: Floats) -> Floats:
    """The Mahalanobis distances of features [images, d] from `centre`: [images]."""
    return np.asarray(np.linalg.norm((features - centre) @ whitening, axis=1))


def add_feature_output(net: Any) -> Any:
    """The net with two outputs for images: features [images, d], and its probability [images, 1].

    A feature is the square root of a channel, averaged over its map. The maps are those that a pooling layer passes on,
    and those that the head takes: what tells the classes apart (the penultimate layer) does not tell what is unusual.
    """
    import keras

    steps = [(layer, layer.input, layer.output) for layer in net.layers]
    if isinstance(net, keras.Sequential):  # of whose layers `input` and `output` may belong to different graphs
        value = net.inputs[0]
        steps = [(layer, value, value := layer(value)) for layer in net.layers]
    maps = {}  # by id: what a last pooling layer passes on is what the head takes
    for layer, before, after in steps:
        if "Pooling2D" in type(layer).__name__ or type(layer).__name__ == "Flatten":
            value = after if len(after.shape) == 4 else before
            maps[id(value)] = keras.ops.sqrt(keras.ops.abs(keras.ops.cast(value, "float32")))
    features = keras.ops.concatenate([keras.ops.mean(value, (1, 2)) for value in maps.values()], axis=1)
    return keras.Model(net.inputs[0], [features, steps[-1][2]])
