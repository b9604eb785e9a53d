"""The figures of the two answers: how badly each variant overfits, and which is significantly more accurate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from car_or_truck import drawing
from car_or_truck.compare import overfitting
from car_or_truck.compare.figures import PERCENT, SIZE, Styles
from car_or_truck.compare.overfitting import Gap
from car_or_truck.compare.verdict import RecipePair

MOST_PAIRS = 15
INK = "#000000"  # a page replaces it by the colour of its text


def dumbbell(table: pd.DataFrame, gaps: Sequence[Gap], looks: Styles, path: Path) -> None:
    """Accuracy on validation and on train, joined by the gap; the widest at the top. `table` is comparison.csv."""
    means = (
        table[~table["collapsed"].astype(bool)]
        .groupby("variant")[["val_binary_accuracy", "train_binary_accuracy"]]
        .mean()
    )
    with drawing.canvas(path, SIZE[0], _height(len(gaps))) as (_, (axes,)):
        for line, item in enumerate(reversed(gaps)):
            colour, both = looks[item.variant]["color"], means.loc[item.variant]
            axes.hlines(line, both.min(), both.max(), color=colour, linewidth=7, alpha=0.25)
            for column, face in (("val_binary_accuracy", colour), ("train_binary_accuracy", "none")):
                axes.plot(both[column], line, "o", color=colour, markerfacecolor=face, markersize=7, markeredgewidth=2)
            for value, x, side in ((both.min(), -8, "right"), (both.max(), 8, "left")):
                text = {"xytext": (x, 0), "textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9}
                axes.annotate(f"{100 * value:.1f}", (value, line), **text)
        low, high = means.min().min(), means.max().max()
        margin = max(0.01, 0.28 * (high - low))
        axes.set_xlim(low - margin, high + margin)
        left, right = max(0, low - margin), min(1, high + margin)
        ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(left, right)
        axes.set_xticks([tick for tick in ticks if left <= tick <= right])
        words = [f"{100 * item.gap:z.1f} points\n{item.grade}" for item in reversed(gaps)]
        _label_lines(axes, [item.variant for item in reversed(gaps)], words)
        axes.xaxis.set_major_formatter(PERCENT)
        title = f"{overfitting.headline(gaps)} {100 * gaps[0].gap:z.1f} points"
        axes.set(title=title, xlabel="accuracy of the saved weights (● validation, ○ train)")


def accuracies(table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """Every model's accuracy with its Wilson interval, one line per variant; `table` is comparison.csv."""
    means = table.groupby("variant")["val_binary_accuracy"].mean().round(6).sort_values()  # equal means are equal
    with drawing.canvas(path, SIZE[0], _height(len(means))) as (_, (axes,)):
        for line, variant in enumerate(means.index):
            models = table[table["variant"] == variant].sort_values("seed")
            places = line + (np.linspace(-0.22, 0.22, len(models)) if len(models) > 1 else np.zeros(1))
            accuracy = models["val_binary_accuracy"]
            reach = [accuracy - models["interval_low"], models["interval_high"] - accuracy]
            axes.errorbar(accuracy, places, xerr=reach, linestyle="", capsize=2.5, linewidth=1, **looks[variant])
        _label_lines(axes, means.index, [f"{100 * mean:.1f}%" for mean in means])
        axes.xaxis.set_major_formatter(PERCENT)
        label = "accuracy on validation with 95% CI\n(one dot per seed)"
        best = means.index[means == means.iloc[-1]]
        name = best[0] if len(best) == 1 else f"{len(best)} variants"
        most = f" {'is' if len(best) == 1 else 'are'} most accurate" * (len(means) > 1)
        axes.set(title=f"{name}{most}: {100 * means.iloc[-1]:.1f}%", xlabel=label)


def differences(pairs: Sequence[RecipePair], path: Path) -> None:
    """The pairs' differences with their intervals; filled dots are significant."""
    shown_pairs = list(pairs)[:MOST_PAIRS][::-1]
    significant = sum(pair.significant for pair in pairs)
    with drawing.canvas(path, SIZE[0], _height(len(shown_pairs))) as (_, (axes,)):
        for line, pair in enumerate(shown_pairs):
            colour = INK if pair.significant else "#808080"
            axes.hlines(line, 100 * pair.estimate.low, 100 * pair.estimate.high, color=colour, linewidth=1.2)
            face = colour if pair.significant else "none"
            axes.plot(100 * pair.estimate.difference, line, "o", color=colour, markerfacecolor=face)
        axes.axvline(0, color="#888888", linewidth=1)
        words = [f"{100 * pair.estimate.difference:+.1f}" for pair in shown_pairs]
        _label_lines(axes, [f"{pair.first}\nover {pair.second}" for pair in shown_pairs], words)
        if len(pairs) == 1:
            title = f"The difference is {'' if significant else 'not '}significant"
        else:
            verb = "is" if significant == 1 else "are"
            title = f"{significant or 'None'} of {len(pairs)} differences {verb} significant"
        if len(pairs) > MOST_PAIRS:
            title += f"; the first {MOST_PAIRS}"
        axes.set(
            title=title,
            xlabel="difference of accuracy (points),\nwith 95% CI; filled: significant",
        )


def _height(lines: int) -> float:
    """Inches."""
    return 1.5 + 0.42 * lines


def _label_lines(axes: Axes, names: Sequence[str], words: Sequence[str]) -> None:
    """A name before each line, and words behind it."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    for line, text in enumerate(words):
        axes.text(1.02, line, text, transform=axes.get_yaxis_transform(), va="center", weight="bold")
