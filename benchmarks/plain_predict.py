"""Predicting with plain Keras, the baseline of prediction.py: plain_predict.py MODEL.keras FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np


def main(path: str, folder: str) -> None:
    model = keras.saving.load_model(path, compile=False)
    files = sorted(Path(folder).rglob("*.jp*g"))
    size = model.input_shape[1:3]
    images = np.stack([keras.utils.img_to_array(keras.utils.load_img(file, target_size=size)) for file in files])
    for file, value in zip(files, model.predict(images / 255, batch_size=64, verbose=0)[:, 0], strict=True):
        print(f"{file},{'Truck' if value > 0.5 else 'Car'},{value:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
