"""What a training prints."""

from __future__ import annotations

import time

import pytest

from car_or_truck.tracking.progress import Progress


def test_a_training_is_a_table_of_62_columns(capsys: pytest.CaptureFixture[str]) -> None:
    callback = Progress(12, best=0.6)  # it continues a training
    callback.set_params({"epochs": 100, "steps": 2})
    callback.on_train_begin()
    for epoch, accuracy in ((97, 0.58), (98, 0.61), (99, 0.605)):
        callback.on_epoch_begin(epoch)
        time.sleep(0.01)
        metrics = {"loss": 0.9475, "binary_accuracy": 0.5586, "val_loss": 1.0053, "val_binary_accuracy": accuracy}
        callback.on_epoch_end(epoch, metrics)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["epoch", "loss", "acc", "val_loss", "val_acc", "img/s", "left"]
    assert [line.split()[0] for line in lines] == ["98/100", "99/100", "100/100"]
    assert lines[0].split()[1:5] == ["0.9475", "55.9%", "1.0053", "58.0%"]
    assert [line.endswith(" *") for line in lines] == [False, True, False]
    assert lines[-1].endswith(" 0 s")
    assert max(map(len, [header, *lines])) <= 62


def test_on_a_terminal_a_bar_shows_the_running_epoch_until_its_line_replaces_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    callback = Progress(12)
    callback.set_params({"epochs": 3, "steps": 4})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.draw_time = 0
    callback.on_train_batch_end(1, {"loss": 0.75})
    callback.draw_time += 60  # so that the next step comes too soon, on a slow machine too
    callback.on_train_batch_end(2, {"loss": 0.5})
    callback.on_epoch_end(0, {"loss": 0.5, "binary_accuracy": 0.75, "val_loss": 0.6, "val_binary_accuracy": 0.625})
    _, bar, line = capsys.readouterr().out.split("\r")
    assert bar.startswith("    1/3   0.7500  ")
    assert "0.5000" not in bar
    assert line.startswith("\033[K")
    assert line.removeprefix("\033[K").split()[:5] == ["1/3", "0.5000", "75.0%", "0.6000", "62.5%"]
