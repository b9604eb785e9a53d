"""The lesson as a plain Keras script, the baseline of engine.py.

python benchmarks/plain_keras.py FOLDER tutorial|exercise EPOCHS; FOLDER holds {train,valid}/{Car,Truck}/.
"""

from __future__ import annotations

import sys

import keras
import tensorflow as tf
from keras import layers

SEED, SIZE = 31415, 128
VARIANTS = {
    "tutorial": (
        [
            layers.Conv2D(32, 5, activation="relu", padding="same"),
            layers.MaxPool2D(),
            layers.Conv2D(64, 3, activation="relu", padding="same"),
            layers.MaxPool2D(),
            layers.Conv2D(128, 3, activation="relu", padding="same"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(6, activation="relu"),
        ],
        {"epsilon": 0.01},
    ),
    "exercise": (
        [
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.MaxPool2D(),
            layers.Conv2D(64, 3, activation="relu", padding="same"),
            layers.MaxPool2D(),
            layers.Conv2D(128, 3, activation="relu", padding="same"),
            layers.Conv2D(128, 3, activation="relu", padding="same"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(6, activation="relu"),
            layers.Dropout(0.2),
        ],
        {"learning_rate": 1e-4},
    ),
}


def main(folder: str, name: str, epochs: int) -> None:
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()

    def images(split: str) -> tf.data.Dataset:
        dataset = keras.utils.image_dataset_from_directory(
            f"{folder}/{split}",
            label_mode="binary",
            image_size=(SIZE, SIZE),
            interpolation="nearest",
            batch_size=64,
            shuffle=split == "train",
            seed=SEED,
            verbose=False,
        )
        scaled = dataset.map(lambda image, label: (tf.image.convert_image_dtype(image / 255, tf.float32), label))
        return scaled.cache().prefetch(tf.data.AUTOTUNE)

    body, optimizer = VARIANTS[name]
    model = keras.Sequential([layers.Input((SIZE, SIZE, 3)), *body, layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(**optimizer), "binary_crossentropy", metrics=["binary_accuracy"])

    def print_epoch(epoch: int, logs: dict[str, float]) -> None:
        metrics = "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
        print(f"plain {name}  epoch {epoch + 1}/{epochs}  {metrics}", flush=True)

    progress = keras.callbacks.LambdaCallback(on_epoch_end=print_epoch)
    model.fit(images("train"), validation_data=images("valid"), epochs=epochs, verbose=0, callbacks=[progress])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
