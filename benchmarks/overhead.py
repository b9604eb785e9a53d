"""What DVC, MLflow, checkpoints and this project add to a training: `dvc repro` of one model against Keras's fit alone.

python benchmarks/overhead.py [EPOCHS] [ROUNDS] trains `tutorial` on the synthetic images. Both are measured as whole
processes, with the same model, batches and precision; they alternate.
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

    loaded = params.load()
    recipe, size = loaded.variants["tutorial"], loaded.train.batch_size
    runtime.start(SEED, loaded.train.precision)
    from car_or_truck.train import convnet

    train, valid = (batches.load(paths.PREPARED, split) for split in ("train", "valid"))
    model = convnet.build(recipe, loaded.data.image_size)
    convnet.compile_net(model, recipe, batches.steps(len(train), size))
    model.fit(
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

    with tempfile.TemporaryDirectory() as temporary:
        folder = lab.clone(Path(temporary) / "clone", change)
        lab.cost(["dvc", "repro", "prepare"], folder)
        commands = {
            "fit alone": [sys.executable, str(lab.ROOT / "benchmarks/overhead.py"), "--fit-alone"],
            "dvc repro": ["dvc", "repro", "--force", "--single-item", f"train@tutorial-{SEED}"],
        }
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                costs[name].append(lab.cost(command, folder))
    print(f"{lab.machine()}; {epochs} epochs, medians of {rounds}", end="\n\n")
    print("| | wall time | CPU time |", "|---|---|---|", sep="\n")
    for name, measurements in costs.items():
        seconds, cpu = (statistics.median(column) for column in zip(*measurements, strict=True))
        print(f"| {name} | {seconds:.1f} s | {cpu:.1f} CPU s |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--fit-alone"]:
        fit_alone()
    else:
        main(*map(int, sys.argv[1:]))
