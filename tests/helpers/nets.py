"""Small recipes, nets and images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from car_or_truck import params
from car_or_truck.fetch.standin import draw as renderer
from car_or_truck.train import batches, runtime
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.recipe import Recipe, Setup
from helpers.clones import ROOT

VARIANTS = params.load(ROOT / "params.yaml").variants

PLAIN: dict[str, Any] = {
    "blocks": [{"filters": 4}],
    "head": {"units": 3},
    "optimizer": {"name": "adam", "learning_rate": 0.003},
    "epochs": 2,
}

EVERYTHING: dict[str, Any] = {
    "blocks": [{"filters": 4, "batch_norm": True, "dropout": 0.2}, {"filters": 6, "residual": True}],
    "head": {"pooling": "global_average", "units": [5], "dropout": 0.3},
    "augment": {"flip": True, "rotate": 15.0, "erase": 0.3, "mixup": 0.3},
    "schedule": {"name": "one_cycle"},
    "shuffle": "each_epoch",
    "keep": "best",
    "l2": 1e-4,
    "optimizer": {"name": "muon", "learning_rate": 0.01, "momentum": 0.9},
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(PLAIN | changes)


def setup(chosen: Recipe, seed: int = 1, precision: str = "float32") -> Setup:
    settings = {"recipe": chosen, "seed": seed, "batch_size": 8, "precision": precision}
    return Setup.model_validate({**settings, "threads": runtime.available_threads()})


def built(side: int = 32, **changes: Any) -> Any:
    """A net whose weights are the same whatever was built before."""
    import keras

    from car_or_truck.train import convnet

    keras.utils.set_random_seed(1)
    return convnet.build(recipe(**changes), side)


def split(count: int, size: int, name: str = "train") -> batches.Split:
    pictures = np.stack([np.asarray(renderer.draw(1, name, number, size)) for number in range(count)])
    labels = np.array([renderer.is_truck(number) for number in range(count)], np.uint8)
    return batches.Split(pictures, labels)


def fitted(chosen: Recipe, part: batches.Split, seed: int = 1) -> tuple[Any, Any, int]:
    from car_or_truck.train import convnet
    from car_or_truck.train.fit import Data, fit

    runtime.start(seed, "float32")
    net = convnet.build(chosen, part.images.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        saved = Checkpoint(Path(folder) / "cell.npz")
        data = Data(part, split(8, part.images.shape[1], "valid"))
        history, kept_epoch = fit(net, setup(chosen, seed), data, saved)
    return net, history, kept_epoch
