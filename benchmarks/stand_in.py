"""How hard are the synthetic images? `python benchmarks/stand_in.py [TRAIN VALID]` prints a table.

They should be learnable, but not trivial: a good model above the lesson's, and the lesson's well above logistic
regression on raw pixels, which this script fits. `dvc repro` trains the others. TRAIN and VALID default to the sizes in
params.yaml.
"""

from __future__ import annotations

import sys

import lab
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from car_or_truck import params
from car_or_truck.fetch.standin import draw

SEED = 31415


def draw_split(split: str, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    images = np.stack([np.asarray(draw.draw(SEED, split, number)) for number in range(count)])
    labels = np.array([draw.is_truck(number) for number in range(count)], np.float32)
    return images.astype(np.float32) / np.float32(255), labels


def main() -> None:
    defaults = params.load().data.rendered
    sizes = [int(argument) for argument in sys.argv[1:]] or [defaults.train, defaults.valid]
    (x, y), (x_valid, y_valid) = draw_split("train", sizes[0]), draw_split("valid", sizes[1])
    print(lab.machine())
    print(f"{sizes[0]} train and {sizes[1]} validation images, seed {SEED}")
    print(f"constant prediction: {1 - y_valid.mean():.4f}")

    flat, flat_valid = x.reshape(len(x), -1), x_valid.reshape(len(x_valid), -1)
    for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        classifier = LogisticRegression(C=strength, max_iter=300).fit(flat, y)
        print(
            f"logistic regression on raw pixels, C={strength:g}: {classifier.score(flat_valid, y_valid):.4f} on "
            f"validation, {classifier.score(flat, y):.4f} on train"
        )


if __name__ == "__main__":
    main()
