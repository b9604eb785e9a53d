"""The lesson's flow as one plain Keras script, to measure the project against.

python benchmarks/plain_keras.py FOLDER tutorial|exercise EPOCHS; FOLDER holds {train,valid}/{Car,Truck}/.
"""

from __future__ import annotations

import sys

import keras
import tensorflow as tf
from keras import layers

SEED, SIZE = 31415, 128
NETS = {
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
        read = keras.utils.image_dataset_from_directory(
            f"{folder}/{split}",
            label_mode="binary",
            image_size=(SIZE, SIZE),
            interpolation="nearest",
            batch_size=64,
            shuffle=split == "train",
            seed=SEED,
            verbose=False,
        )
        scaled = read.map(lambda image, label: (tf.image.convert_image_dtype(image / 255, tf.float32), label))
        return scaled.cache().prefetch(tf.data.AUTOTUNE)

    body, optimizer = NETS[name]
    net = keras.Sequential([layers.Input((SIZE, SIZE, 3)), *body, layers.Dense(1, activation="sigmoid")])
    net.compile(keras.optimizers.Adam(**optimizer), "binary_crossentropy", metrics=["binary_accuracy"])

    def line(epoch: int, logs: dict[str, float]) -> None:
        shown = "  ".join(f"{key} {value:.4f}" for key, value in logs.items())
        print(f"plain {name}  epoch {epoch + 1}/{epochs}  {shown}", flush=True)

    show = keras.callbacks.LambdaCallback(on_epoch_end=line)
    net.fit(images("train"), validation_data=images("valid"), epochs=epochs, verbose=0, callbacks=[show])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
