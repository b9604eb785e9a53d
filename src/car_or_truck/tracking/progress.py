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

    A line that ends with * has the highest validation accuracy so far. `images` are those of an epoch,
    `best` is that accuracy before this process: a resumed training has one.
    """

    def __init__(self, images: int, best: float = -1.0) -> None:
        super().__init__()
        self.images, self.best = images, best

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self.started = self.epoch_started = self.draw_time = time.monotonic()
        self.finished_epochs = 0  # epochs of this process: a resumed training starts later
        print(HEADER, flush=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock."""
        self.epoch, self.epoch_started = epoch, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch's line."""
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
        print(line + (" *" if accuracy > self.best else ""), flush=True)
        self.best = max(self.best, accuracy)

    def _number(self) -> str:
        return f"{self.epoch + 1}/{self.params['epochs']}"


class LiveProgress(Progress):
    """Progress on a terminal, with a bar for the running epoch too.

    A class of its own, because asking for a step's metrics makes Keras wait for that step. The bar is drawn by hand:
    rich's live display hides the cursor, and an interrupted training would leave it so.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Redraw the bar, a few times a second."""
        now, steps = time.monotonic(), self.params["steps"]
        if now - self.draw_time < 0.2:
            return
        self.draw_time = now
        left = (now - self.epoch_started) / (batch + 1) * (steps - batch - 1)
        console = Console()
        print(f"\r{self._number():>7}{(logs or {}).get('loss', float('nan')):>9.4f}  ", end="")
        console.print(ProgressBar(steps, batch + 1, width=33), end="")
        print(f"  {duration(left):>8}\033[K", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replace the bar by the epoch's line."""
        print("\r\033[K", end="")
        super().on_epoch_end(epoch, logs)


def progress(images: int, best: float = -1.0) -> Progress:
    """The callback that suits the output: live on a terminal."""
    return (LiveProgress if sys.stdout.isatty() else Progress)(images, best)
