"""What a person sees while a cell trains."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras

from car_or_truck.train.history import METRICS


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """A line an epoch: its number, its four metrics, the images a second and the time left for the cell.

    On a terminal the line of the epoch under way is there too, and grows with its steps.
    """

    def __init__(self, name: str, images: int) -> None:
        super().__init__()
        self.name, self.images = name, images

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self.started = self.epoch_started = self.shown = time.monotonic()
        self.done = 0  # epochs of this process: a training may go on where another one stopped

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
    """Progress on a terminal; by itself, because Keras waits for each step's numbers where a callback asks for them."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Renew the line of the epoch under way, a few times a second."""
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
        """Put the epoch's line in the place of the live one."""
        print("\r\033[K", end="")
        super().on_epoch_end(epoch, logs)


def progress(name: str, images: int) -> Progress:
    """The callback that suits where the output goes; `images`: that an epoch trains on."""
    return (LiveProgress if sys.stdout.isatty() else Progress)(name, images)


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
