"""Predicting with plain Keras, to measure `car-or-truck predict` against: plain_predict.py MODEL.keras FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np


def main(model: str, folder: str) -> None:
    net = keras.saving.load_model(model, compile=False)
    pictures = sorted(Path(folder).rglob("*.jp*g"))
    size = net.input_shape[1:3]
    images = np.stack([keras.utils.img_to_array(keras.utils.load_img(path, target_size=size)) for path in pictures])
    for path, value in zip(pictures, net.predict(images / 255, batch_size=64, verbose=0)[:, 0], strict=True):
        print(f"{path},{'Truck' if value > 0.5 else 'Car'},{value:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
