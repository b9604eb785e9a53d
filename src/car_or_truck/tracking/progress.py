"""What a person sees while a model trains."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras

from car_or_truck.train.history import METRICS


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """A line an epoch: its number, its four metrics, images a second and the time left for the training."""

    def __init__(self, name: str, images: int) -> None:
        super().__init__()
        self.name, self.images = name, images

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self.started = self.epoch_started = self.shown = time.monotonic()
        self.done = 0  # epochs of this process: a resumed training starts later

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock."""
        self.epoch, self.epoch_started = epoch, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch's line."""
        now = time.monotonic()
        self.done += 1
        left = (now - self.started) / self.done * (self.params["epochs"] - epoch - 1)
        metrics = "  ".join(f"{name} {(logs or {})[name]:.4f}" for name in METRICS)
        rate = f"{self.images / (now - self.epoch_started):,.0f} images/s"
        print(f"{self._head()}  {metrics}  {rate}  {_span(left)} left", flush=True)

    def _head(self) -> str:
        total = self.params["epochs"]
        return f"{self.name}  epoch {self.epoch + 1:>{len(str(total))}}/{total}"


class LiveProgress(Progress):
    """Progress on a terminal, with a line for the running epoch too.

    A class of its own, because asking for a step's metrics makes Keras wait for that step.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Rewrite the running epoch's line, a few times a second."""
        now, steps = time.monotonic(), self.params["steps"]
        if now - self.shown < 0.2:
            return
        self.shown = now
        left = (now - self.epoch_started) / (batch + 1) * (steps - batch - 1)
        loss = f"  loss {(logs or {}).get('loss', float('nan')):.4f}"
        print(
            f"\r{self._head()}  step {batch + 1}/{steps}{loss}  {_span(left)} left in this epoch\033[K",
            end="",
            flush=True,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replace the live line by the epoch's."""
        print("\r\033[K", end="")
        super().on_epoch_end(epoch, logs)


def progress(name: str, images: int) -> Progress:
    """The callback that suits the output: live on a terminal. `images`: the training images of an epoch."""
    return (LiveProgress if sys.stdout.isatty() else Progress)(name, images)


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
