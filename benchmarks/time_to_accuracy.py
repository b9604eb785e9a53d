"""Validation accuracy versus CPU seconds, for any variants, seeds and precisions.

`python benchmarks/time_to_accuracy.py --seeds 1 2 3 4 5 --precision mixed_bfloat16 -- sprint exercise` trains each
model on the working directory's data/prepared by `car-or-truck train` in its own process, and appends its curve to
time_to_accuracy.csv next to this file. Models that are already in it are not trained again. Every call, also one
without variants, prints the table of all models so far and redraws time_to_accuracy.png.

CPU seconds are user plus system time of the whole process: starting Python and TensorFlow, tracing, training, MLflow,
and validation after each epoch. Other work on the machine inflates wall time, and CPU seconds far less.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lab
import matplotlib as mpl
import pandas as pd
import psutil
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, PercentFormatter
from ruamel.yaml import YAML
from scipy.stats import ttest_rel

from car_or_truck.drawing import STYLE

HERE = Path(__file__).parent
RESULTS, FIGURE = HERE / "time_to_accuracy.csv", HERE / "time_to_accuracy.png"
CELL = ["variant", "precision", "seed"]
TARGET = 0.8517  # the lesson's validation accuracy after the exercise's 50 epochs
EPOCH = re.compile(r"^ +(\d+)/\d+ ")


def train(variant: str, seed: int, precision: str) -> pd.DataFrame:
    """Train one model; returns a row per epoch, and a last row, epoch 0, for the end of the process."""
    rows: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tree = YAML(typ="safe").load(HERE.parent / "params.yaml")
        tree["train"]["precision"] = precision
        YAML(typ="safe").dump(tree, folder / "params.yaml")
        (folder / "dvc.yaml").touch()  # marks the root, where MLflow's store goes
        (folder / "data").symlink_to(Path("data").resolve())
        start, cpu = time.monotonic(), lab.child_cpu_seconds()
        process = psutil.Popen(
            [sys.executable, "-m", "car_or_truck", "train", variant, str(seed)],
            cwd=folder,
            env=lab.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if match := EPOCH.search(line):
                used = process.cpu_times()
                rows.append((int(match[1]), used.user + used.system, time.monotonic() - start))
        if process.wait() != 0:
            raise SystemExit(f"{variant}-{seed} failed")
        rows.append((0, lab.child_cpu_seconds() - cpu, time.monotonic() - start))
        history = pd.read_csv(folder / "models" / variant / str(seed) / "history.csv")
    curve = pd.DataFrame(rows, columns=["epoch", "cpu_seconds", "seconds"])
    curve = curve.merge(history[["epoch", "val_binary_accuracy"]], how="left", on="epoch")
    return curve.assign(variant=variant, precision=precision, seed=seed)[[*CELL, *curve.columns]].round(4)


def spread(values: pd.Series, form: str) -> str:
    """The mean, with the lowest and highest of several values."""
    if len(values) == 1:
        return format(values.iloc[0], form)
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"


def table(cells: pd.DataFrame) -> list[str]:
    """README.md's table, a row per variant and precision; its last column covers the seeds that reached the target."""
    lines = [
        "| variant | precision | seeds | validation accuracy: mean (lowest to highest), sd | "
        f"CPU s: mean (lowest to highest) | CPU s to first reach {TARGET} |",
        "|---|---|---|---|---|---|",
    ]
    for (variant, precision), group in cells.groupby(CELL[:2], sort=False):
        accuracy, reached = group["accuracy"], group[f"CPU s to {TARGET}"].dropna()
        deviation = f", {accuracy.std():.4f}" if len(group) > 1 else ""
        fraction = f"{len(reached)} of {len(group)}: " if len(reached) < len(group) else ""
        first = fraction + spread(reached, ",.0f") if len(reached) else "never"
        lines.append(
            f"| `{variant}` | {precision.removeprefix('mixed_')} | {len(group)} | {spread(accuracy, '.4f')}{deviation} "
            f"| {spread(group['CPU s'], ',.0f')} | {first} |"
        )
    return lines


def summary(curves: pd.DataFrame) -> pd.DataFrame:
    """A row per model: final accuracy, total CPU seconds, and CPU seconds to first reach the target."""
    rows = []
    for cell, curve in curves.groupby(CELL, sort=False):
        epochs, end = curve[curve["epoch"] > 0], curve[curve["epoch"] == 0].iloc[0]
        reached = epochs[epochs["val_binary_accuracy"] >= TARGET]
        rows.append(
            dict(zip(CELL, cell, strict=True))
            | {
                "accuracy": epochs["val_binary_accuracy"].iloc[-1],
                "CPU s": end["cpu_seconds"],
                "wall s": end["seconds"],
                f"CPU s to {TARGET}": reached["cpu_seconds"].iloc[0] if len(reached) else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def differences(cells: pd.DataFrame) -> list[str]:
    """For each variant: accuracy with bfloat16 minus that with float32, paired by seed, with its 95% t interval."""
    lines = []
    for variant, group in cells.groupby("variant", sort=False):
        pairs = group.pivot_table(index="seed", columns="precision", values="accuracy").dropna()
        if len(pairs) > 1 and len(pairs.columns) == 2:
            test = ttest_rel(pairs["mixed_bfloat16"], pairs["float32"])
            low, high = test.confidence_interval()
            mean = (pairs["mixed_bfloat16"] - pairs["float32"]).mean()
            lines.append(
                f"{variant}: bfloat16 minus float32 {100 * mean:+.2f} points (95% CI {100 * low:+.2f} to "
                f"{100 * high:+.2f}; {len(pairs)} seeds, same images)"
            )
    return lines


def draw(curves: pd.DataFrame) -> None:
    """Draw the mean of each variant and precision over CPU seconds, with a band from the lowest to the highest seed."""
    epochs = curves[curves["epoch"] > 0]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 5), layout="constrained")
        axes = figure.add_subplot()
        for place, ((variant, precision), group) in enumerate(epochs.groupby(CELL[:2], sort=False)):
            dashes = "-" if place < len(mpl.rcParams["axes.prop_cycle"]) else "--"  # where colours begin again
            seeds, per_epoch = group["seed"].nunique(), group.groupby("epoch")
            label = f"{variant}, {precision.removeprefix('mixed_')}, {seeds} seed{'s' * (seeds > 1)}"
            seconds, accuracy = per_epoch["cpu_seconds"].mean(), per_epoch["val_binary_accuracy"]
            (line,) = axes.plot(seconds, accuracy.mean(), dashes, lw=1.5, label=label)
            axes.plot(seconds.iloc[-1], accuracy.mean().iloc[-1], "o", color=line.get_color(), ms=5)
            axes.fill_between(seconds, accuracy.min(), accuracy.max(), color=line.get_color(), alpha=0.15, lw=0)
        axes.axhline(TARGET, color="#666666", lw=1, ls=":")
        axes.text(0.01, TARGET, f"the lesson's {TARGET:.2%}", transform=axes.get_yaxis_transform(), va="bottom")
        axes.set(xscale="log", xlabel="CPU seconds of the whole process", ylabel="validation accuracy")
        axes.set_title("Validation accuracy versus training time: mean and range of the seeds")
        for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatter(LogFormatter(minor_thresholds=(2, 0.5)))  # 100 instead of 10^2
        axes.tick_params(axis="x", which="both", pad=4)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(FIGURE, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "variants", nargs="*", help="variants of params.yaml; none: print the table and draw the figure only"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--precision", nargs="+", choices=["float32", "mixed_bfloat16"], default=["mixed_bfloat16"])
    options = parser.parse_args()
    curves = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=CELL)
    for seed in options.seeds:  # the precisions alternate, so that other load on the machine affects both alike
        for variant in options.variants:
            for precision in options.precision:
                if ((curves[CELL] == [variant, precision, seed]).all(axis=1)).any():
                    continue
                curves = pd.concat(
                    [curves, train(variant, seed, precision)] if len(curves) else [train(variant, seed, precision)]
                )
                curves.to_csv(RESULTS, index=False, lineterminator="\n")
    if not len(curves):
        parser.error("no model has been trained yet; name variants")
    cells = summary(curves)
    print(lab.machine(), end="\n\n")
    print(*table(cells), "", *differences(cells), sep="\n")
    draw(curves)


if __name__ == "__main__":
    main()
