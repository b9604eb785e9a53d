"""What a person sees while a model trains."""

from __future__ import annotations

import sys
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress_bar import ProgressBar

from car_or_truck.cells.times import duration

ROW = "{:>7} {:>8} {:>7} {:>9} {:>8} {:>8} {:>7}"  # with its mark 62 columns
HEADER = ROW.format("epoch", "loss", "acc", "val_loss", "val_acc", "img/s", "left")


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """A table with a line an epoch: its four metrics, images a second and the time left for the training.

    On a terminal, a bar shows the running epoch. A line that ends with * has the highest validation accuracy so far.
    `images` are those of an epoch, `best` is that accuracy before this process: a resumed training has one.
    """

    def __init__(self, images: int, best: float = -1.0) -> None:
        super().__init__()
        self.images, self.best, self.live = images, best, sys.stdout.isatty()

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self.started = self.epoch_started = self.draw_time = time.monotonic()
        self.finished_epochs = 0  # epochs of this process: a resumed training starts later
        print(HEADER, flush=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock."""
        self.epoch, self.epoch_started = epoch, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Redraw the bar, a few times a second.

        By hand: rich's live display hides the cursor, and an interrupted training would leave it so.
        """
        now, steps = time.monotonic(), self.params["steps"]
        if not self.live or now - self.draw_time < 0.2:
            return
        self.draw_time = now
        left = (now - self.epoch_started) / (batch + 1) * (steps - batch - 1)
        print(f"\r{self._number():>7}{(logs or {}).get('loss', float('nan')):>9.4f}  ", end="")
        Console().print(ProgressBar(steps, batch + 1, width=33), end="")
        print(f"  {duration(left):>8}\033[K", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch's line, in place of the bar."""
        now, metrics = time.monotonic(), logs or {}
        self.finished_epochs += 1
        left = (now - self.started) / self.finished_epochs * (self.params["epochs"] - epoch - 1)
        accuracy = metrics["val_binary_accuracy"]
        line = ROW.format(
            self._number(),
            f"{metrics['loss']:.4f}",
            f"{metrics['binary_accuracy']:.1%}",
            f"{metrics['val_loss']:.4f}",
            f"{accuracy:.1%}",
            f"{self.images / (now - self.epoch_started):,.0f}",
            duration(left),
        )
        print("\r\033[K" * self.live + line + " *" * (accuracy > self.best), flush=True)
        self.best = max(self.best, accuracy)

    def _number(self) -> str:
        return f"{self.epoch + 1}/{self.params['epochs']}"
