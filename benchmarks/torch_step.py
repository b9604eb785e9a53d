"""A training step of `exercise` in this project and in PyTorch: python benchmarks/torch_step.py [ROUNDS]

Both train the same convnet with Adam on batches of 64 random images of 128 pixels, on all threads: PyTorch with
channels last and its fused Adam. Their processes alternate; the table has the medians of their CPU milliseconds per
step. PyTorch is not among the project's packages: `pip install torch`, or its rows are left out; and so are those of
bfloat16 where the processor lacks it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from statistics import median
from typing import Any

import lab
import numpy as np

from car_or_truck import params
from car_or_truck.train import runtime

BATCH, SIDE, WARM_UP, STEPS = 64, 128, 4, 20


def batch() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((BATCH, SIDE, SIDE, 3), np.float32), rng.integers(0, 2, (BATCH, 1)).astype(np.float32)


def keras_step(precision: str) -> float:
    """CPU milliseconds of a step of the project."""
    runtime.start(0, precision)
    import tensorflow as tf

    from car_or_truck.train import convnet

    recipe = params.load(lab.ROOT / "params.yaml").variants["exercise"]
    net = convnet.build(recipe, SIDE)
    convnet.compile_net(net, recipe, STEPS)
    images, labels = batch()
    dataset = tf.data.Dataset.from_tensors((images, labels)).cache().repeat()
    net.fit(dataset, steps_per_epoch=WARM_UP, verbose=0)
    start = time.process_time()
    net.fit(dataset, steps_per_epoch=STEPS, verbose=0)
    return (time.process_time() - start) * 1000 / STEPS


def torch_step(precision: str) -> float:
    """CPU milliseconds of a step of PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(runtime.available_threads())
    channels, modules = 3, []
    for filters, convs in ((32, 1), (64, 1), (128, 2)):
        for _ in range(convs):
            modules += [nn.Conv2d(channels, filters, 3, padding="same"), nn.ReLU()]
            channels = filters
        modules.append(nn.MaxPool2d(2))
    units = channels * (SIDE // 8) ** 2
    head = [nn.Flatten(), nn.Linear(units, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 1)]
    net = nn.Sequential(*modules, *head).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.0001, fused=True)
    loss = nn.BCEWithLogitsLoss()
    images, labels = batch()
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    answers = torch.from_numpy(labels)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16"):
                logits = net(pictures)
            loss(logits.float(), answers).backward()
            optimizer.step()

    train(WARM_UP)
    start = time.process_time()
    train(STEPS)
    return (time.process_time() - start) * 1000 / STEPS


def main(rounds: int) -> None:
    print(lab.machine(), end="\n\n")
    sides = ["keras", "torch"] if importlib.util.find_spec("torch") else ["keras"]
    if "torch" not in sides:
        print("PyTorch is not installed: its rows are left out.\n")
    precisions = ["float32", "mixed_bfloat16"] if runtime.bfloat16_feature() else ["float32"]
    cells = [(side, precision) for precision in precisions for side in sides]
    times: dict[tuple[str, str], list[float]] = {cell: [] for cell in cells}
    for _ in range(rounds):
        for cell in cells:
            output = subprocess.run(
                [sys.executable, __file__, *cell], capture_output=True, text=True, check=True
            ).stdout
            times[cell].append(float(output.split()[-1]))
    print("| library | precision | CPU ms per step | relative to PyTorch |\n|---|---|---|---|")
    for side, precision in cells:
        middle, other = median(times[side, precision]), times.get(("torch", precision))
        ratio = f"{middle / median(other):.2f}" if other else ""
        print(f"| {'this project' if side == 'keras' else 'PyTorch'} | {precision} | {middle:.0f} | {ratio} |")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print({"keras": keras_step, "torch": torch_step}[sys.argv[1]](sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
