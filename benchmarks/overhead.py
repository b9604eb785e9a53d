"""What DVC, MLflow, checkpoints and this project add to a training: `dvc repro` of a model against Keras's fit alone.

python benchmarks/overhead.py [EPOCHS] [ROUNDS]: the stand-in's `tutorial`. Both are whole processes, start to end,
with the same model, batches and precision; they take turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import lab

SEED = 31415


def fit_alone() -> None:
    from car_or_truck import params, paths
    from car_or_truck.train import batches, runtime

    chosen = params.load()
    recipe, size = chosen.variants["tutorial"], chosen.train.batch_size
    runtime.start(SEED, chosen.train.precision)
    from car_or_truck.train import convnet

    train, valid = (batches.load(paths.PREPARED, split) for split in ("train", "valid"))
    net = convnet.build(recipe, chosen.data.image_size)
    convnet.compile_net(net, recipe, batches.steps(len(train), size))
    net.fit(
        batches.stream(train, batches.training_order(len(train), recipe.epochs, recipe.shuffle, SEED), size),
        validation_data=batches.in_order(valid, size),
        epochs=recipe.epochs,
        steps_per_epoch=batches.steps(len(train), size),
        shuffle=False,
        verbose=0,
    )


def main(epochs: int = 10, rounds: int = 3) -> None:
    def change(tree: Any) -> None:
        tree["data"]["sources"] = ["rendered"]
        tree["variants"]["tutorial"]["epochs"] = epochs

    with tempfile.TemporaryDirectory() as place:
        folder = lab.clone(Path(place) / "clone", change)
        lab.cost(["dvc", "repro", "prepare"], folder)
        commands = {
            "fit alone": [sys.executable, str(lab.ROOT / "benchmarks/overhead.py"), "--fit-alone"],
            "dvc repro": ["dvc", "repro", "--force", "--single-item", f"train@tutorial-{SEED}"],
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                found[name].append(lab.cost(command, folder))
    print(f"{lab.machine()}; {epochs} epochs, medians of {rounds}", end="\n\n")
    print("| | clock | CPU |", "|---|---|---|", sep="\n")
    for name, figures in found.items():
        seconds, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"| {name} | {seconds:.1f} s | {cpu:.1f} CPU s |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--fit-alone"]:
        fit_alone()
    else:
        main(*map(int, sys.argv[1:]))
