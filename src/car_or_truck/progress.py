"""What a person sees while a cell trains: one line an epoch."""

from __future__ import annotations

import time
from typing import Any

import keras

from car_or_truck.history import METRICS


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Prints the epoch, its four metrics, the images a second and the time left for the cell."""

    def __init__(self, name: str, images: int) -> None:
        super().__init__()
        self.name, self.images = name, images

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self.started = self.epoch_started = time.monotonic()
        self.done = 0  # epochs of this process: a training may go on where another one stopped

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock."""
        self.epoch_started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch's line."""
        now = time.monotonic()
        total = self.params["epochs"]
        self.done += 1
        left = (now - self.started) / self.done * (total - epoch - 1)
        metrics = "  ".join(f"{name} {(logs or {})[name]:.4f}" for name in METRICS)
        print(
            f"{self.name}  epoch {epoch + 1:>{len(str(total))}}/{total}  {metrics}  "
            f"{self.images / (now - self.epoch_started):,.0f} images/s  {_span(left)} left",
            flush=True,
        )


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
