"""The model as it is asked: pictures of any size in, labels and probabilities out.

This file, images.py and scaling.py are shipped inside every logged model, as a package of their own, so that it
answers where the project is not installed. So they import one another relatively, and nothing else of the project.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..prepare import images
from ..train import scaling

# What photographs and screenshots come as. Pillow knows more, some of which run other programs (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 64_000_000  # of one picture: a small file can claim to hold gigabytes
COLUMNS = ("image", "pixels")
BATCH = 64
MOST_NAMED = 5  # wrong rows in one message


class Classifier:
    """A net, the side of the pictures that it was trained on, and its two classes; the second is what P() is of."""

    def __init__(self, net: Any, image_size: int, classes: Sequence[str]) -> None:
        import tensorflow as tf

        self.net, self.image_size, self.classes = net, image_size, list(classes)
        self.side = int(net.input_shape[1])
        shape = tf.TensorSpec([None, self.side, self.side, 3], tf.uint8)
        # One graph for every number of pictures. Unlike `net.predict`, it may be called by several threads at once.
        self._answer = tf.function(
            lambda batch: net(tf.image.convert_image_dtype(batch, tf.float32), training=False), input_signature=[shape]
        )

    def decode(self, file: Path | IO[bytes]) -> NDArray[np.uint8]:
        """A picture, letterboxed as in training: [image_size, image_size, 3]. ValueError says why it is none."""
        try:
            return images.decode(file, self.image_size, FORMATS, MOST_PIXELS).pixels
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # decoders of broken files raise what they like
            raise ValueError(f"broken ({type(error).__name__}: {error})") from None

    def probability(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """P(the second class) of pictures [n, image_size, image_size, 3]."""
        if self.side != self.image_size:
            pictures = scaling.resized(pictures, self.side)
        parts = [self._answer(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        return np.concatenate([np.asarray(part, np.float64)[:, 0] for part in parts] or [np.empty(0)])

    def labels(self, probability: NDArray[np.float64]) -> list[str]:
        """The class of each answer."""
        return [self.classes[int(value > 0.5)] for value in probability]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer rows that hold an `image` or its `pixels`: label, probability, and of which class that is.

        `image`: a picture file in base64. `pixels`: one picture as nested numbers 0..255, [h, w, 3] or [h, w].
        Raises an MlflowException, which the server answers with 400, that names the rows that are wrong.
        """
        rows = pd.DataFrame(data)
        known = [name for name in COLUMNS if name in rows]
        if not known:
            raise _refused("rows need a column `image` (a picture file in base64) or `pixels` (nested 0..255)")
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it decodes
            decoded = list(pool.map(self._row, rows[known].to_dict("records")))
        wrong = [f"row {place}: {reason}" for place, reason in enumerate(decoded) if isinstance(reason, str)]
        if wrong:
            more = f"; and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
            raise _refused("; ".join(wrong[:MOST_NAMED]) + more)
        pictures = np.stack(decoded) if decoded else np.empty((0, self.image_size, self.image_size, 3), np.uint8)
        probability = self.probability(pictures)
        return pd.DataFrame(
            {"label": self.labels(probability), "probability": probability, "probability_of": self.classes[1]}
        )

    def _row(self, row: dict[str, Any]) -> NDArray[np.uint8] | str:
        """The row's picture, or what is wrong with it. Nothing that a row says is ever opened as a path or a URL."""
        given = {name: value for name, value in row.items() if not _missing(value)}
        if len(given) != 1:
            return f"give one of image and pixels, not {'both' if given else 'none'}"
        ((name, value),) = given.items()
        try:
            return self.decode(BytesIO(_unpacked(value))) if name == "image" else self._from_pixels(value)
        except ValueError as error:
            return f"{name}: {error}"

    def _from_pixels(self, value: Any) -> NDArray[np.uint8]:
        try:
            pixels = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise ValueError("not nested numbers of one shape, [height, width, 3] or [height, width]") from None
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
            raise ValueError(f"the shape is {list(pixels.shape)}, not [height, width, 3] or [height, width]")
        if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
            raise ValueError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels are more than {MOST_PIXELS:,}")
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 255:
            raise ValueError(f"numbers must be 0..255, not {pixels.min():g}..{pixels.max():g}")
        return images.from_pixels(pixels.round().astype(np.uint8), self.image_size)

    def get_raw_model(self) -> Classifier:
        """For `mlflow.pyfunc.load_model(...).get_raw_model()`: what decodes and answers without tables."""
        return self


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _unpacked(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"not text, but {type(value).__name__}; give a picture file in base64")
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64; give a picture file's bytes in base64, not its name or address") from None


def _refused(message: str) -> Exception:
    from mlflow.exceptions import MlflowException

    refused: Exception = MlflowException.invalid_parameter_value(message[0].upper() + message[1:].rstrip(".") + ".")
    return refused


def _load_pyfunc(data: str) -> Classifier:
    """MLflow calls this with the folder that holds model.keras and serving.json."""
    import keras

    folder = Path(data)
    about = json.loads((folder / "serving.json").read_text(encoding="utf-8"))
    net = keras.saving.load_model(folder / "model.keras", compile=False)
    return Classifier(net, about["image_size"], about["classes"])
