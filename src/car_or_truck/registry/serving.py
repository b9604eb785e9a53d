"""The model as it is served: pictures of any size in, labels and probabilities out.

This file, evaluate/reliability.py, prepare/images.py and train/scaling.py are shipped inside every logged
model, as a package of their own, so that it predicts where the project is not installed. They import
nothing else of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import compress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluate.reliability import UNLIKE, Reliability, add_feature_output
from ..prepare import images
from ..train import scaling

BATCH = 64  # pictures
MOST_DECODED = 4  # pictures at a time: a large one takes up to 1.2 GB
MOST_NAMED = 5  # wrong rows in a message


class Classifier:
    """A convnet, the side of the pictures that it was trained on, its two classes, and its threshold.

    Probabilities are those of the second class; above the threshold it is the predicted one. Without
    `reliability`, which an evaluation measures, it answers with label and probability alone.
    """

    def __init__(
        self,
        net: Any,
        image_size: int,
        classes: Sequence[str],
        threshold: float,
        reliability: Reliability | None = None,
    ) -> None:
        import tensorflow as tf

        self.net, self.image_size, self.classes, self.threshold = net, image_size, list(classes), threshold
        self.reliability = reliability
        self.side = int(net.input_shape[1])
        outputs = add_feature_output(net) if reliability else net
        shape = tf.TensorSpec([None, self.side, self.side, 3], tf.uint8)
        # One graph for any number of pictures; unlike `net.predict`, several threads may call it at once.
        self._outputs = tf.function(
            lambda batch: tf.nest.flatten(outputs(tf.image.convert_image_dtype(batch, tf.float32), training=False)),
            input_signature=[shape],
        )

    def decode(self, file: Path | IO[bytes]) -> NDArray[np.uint8]:
        """A picture letterboxed as in training: [image_size, image_size, 3]. Raises ValueError with the reason."""
        return images.decode(file, self.image_size).pixels

    def probability(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """P(second class) of pictures [n, image_size, image_size, 3]."""
        return self._run(pictures)[-1][:, 0].astype(np.float64)

    def _run(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The net's outputs for pictures: [n, 1] probabilities, after [n, d] features if there is a `reliability`."""
        if not len(pictures):  # TensorFlow makes no maps of the right shape from an empty batch
            return [output[:0] for output in self._run(np.zeros((1, *pictures.shape[1:]), np.uint8))]
        if self.side != self.image_size:
            pictures = scaling.resized(pictures, self.side)
        parts = [self._outputs(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def labels(self, probability: NDArray[np.float64]) -> list[str]:
        """The predicted class for each probability."""
        return [self.classes[int(value > self.threshold)] for value in probability]

    def answers(self, pictures: NDArray[np.uint8], coverage: float | None = None) -> pd.DataFrame:
        """A row for each of the pictures [n, image_size, image_size, 3].

        Columns: label, probability, probability_of. With a `reliability` also confidence (the calibrated probability
        of the label), unlike and note (whether and why the picture is unlike the training images); with `coverage`
        prediction_set, a list of labels. Raises ValueError for a coverage that there are no sets for.
        """
        if coverage is not None and not 0 < coverage < 1:
            raise ValueError(f"coverage is {coverage}, must be between 0 and 1")
        if coverage is not None and self.reliability is None:
            raise ValueError("coverage needs a registered model that was evaluated")
        *features, column = self._run(pictures)
        probability = column[:, 0].astype(np.float64)
        answers = {"label": self.labels(probability), "probability": probability, "probability_of": self.classes[1]}
        if self.reliability is not None:
            unlike = self.reliability.unlike(features[0])
            answers |= {"confidence": self.reliability.confidence(probability), "unlike": unlike}
            answers["note"] = np.where(unlike, UNLIKE, "")
            if coverage is not None:
                sets = self.reliability.prediction_sets(probability, coverage)
                answers["prediction_set"] = [[*compress(self.classes, row)] for row in sets]
        return pd.DataFrame(answers)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict for rows with an `image`, a picture file in base64; see `answers`, also for the param `coverage`.

        Raises an MlflowException that names the wrong rows; the server answers it with status 400.
        """
        rows = pd.DataFrame(data)
        if "image" not in rows:
            raise _refused("rows need a column `image`: a picture file in base64")
        with ThreadPoolExecutor(MOST_DECODED) as pool:  # Pillow releases the interpreter while it decodes
            decoded = list(pool.map(self._decode_row, rows["image"]))
        wrong = [f"row {place}: {reason}" for place, reason in enumerate(decoded) if isinstance(reason, str)]
        if wrong:
            more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
            raise _refused("; ".join(wrong[:MOST_NAMED]) + more)
        pictures = np.stack(decoded) if decoded else np.empty((0, self.image_size, self.image_size, 3), np.uint8)
        try:
            return self.answers(pictures, (params or {}).get("coverage"))
        except ValueError as error:
            raise _refused(str(error)) from None

    def _decode_row(self, value: Any) -> NDArray[np.uint8] | str:
        """A row's picture, or what is wrong with it. A row is never opened as a path or URL."""
        try:
            return self.decode(BytesIO(_bytes(value)))
        except ValueError as error:
            return f"image: {error}"

    def get_raw_model(self) -> Classifier:
        """For `mlflow.pyfunc.load_model(...).get_raw_model()`: decodes and predicts without tables."""
        return self


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"not text, but {type(value).__name__}; give a picture file in base64")
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ValueError("not base64; give the bytes of a picture file in base64, not its name or URL") from None


def _refused(message: str) -> Exception:
    from mlflow.exceptions import MlflowException

    refused: Exception = MlflowException.invalid_parameter_value(message[0].upper() + message[1:].rstrip(".") + ".")
    return refused


def _load_pyfunc(data: str) -> Classifier:
    """Load the folder that holds model.keras and serving.json; MLflow calls this function."""
    import keras

    folder = Path(data)
    about = json.loads((folder / "serving.json").read_text(encoding="utf-8"))
    net = keras.saving.load_model(folder / "model.keras", compile=False)
    reliability = Reliability.load(folder / "reliability.npz")
    return Classifier(net, about["image_size"], about["classes"], about["threshold"], reliability)
