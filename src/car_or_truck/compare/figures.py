"""The figures of a comparison: curves of all variants, their gaps, their differences, accuracy over cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from scipy.stats import norm

from car_or_truck import drawing
from car_or_truck.compare import statistics
from car_or_truck.compare.verdict import RecipePair
from car_or_truck.evaluate.scores import LEVEL, rise_text

SIZE = (5.4, 4.1)  # inches: legible on a phone
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
Styles = Mapping[str, dict[str, object]]


def styles(variants: Sequence[str]) -> Styles:
    """A colour and a marker for each variant; after eight, the colours repeat with other markers."""
    looks = [{"marker": marker, **colour} for marker in "osD^vPX*" for colour in drawing.STYLE["axes.prop_cycle"]]
    return dict(zip(variants, cycle(looks), strict=False))


def curves(table: pd.DataFrame, path: Path) -> None:
    """Loss and accuracy side by side; `table` is curves.csv."""
    with drawing.canvas(path, 10.5, 4.6, 2) as (sheet, (loss, accuracy)):
        loss_axes(table, loss)
        accuracy_axes(table, accuracy)
        legend(sheet, loss)


def alone(draw: Callable[[pd.DataFrame, Axes], None], table: pd.DataFrame, path: Path) -> None:
    """One of the axes below as a figure of its own."""
    with drawing.canvas(path, *SIZE) as (sheet, (axes,)):
        draw(table, axes)
        legend(sheet, axes)


def legend(sheet: Figure, axes: Axes) -> None:
    """The legend of `axes`, below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 24:
        return  # a legend larger than the figure; the table names them
    columns = max(1, min(4, round(sheet.get_figwidth() * 6.5 / (max(map(len, labels)) + 4))))
    sheet.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def loss_axes(table: pd.DataFrame, axes: Axes) -> None:
    """Loss over the epochs: solid on validation, dotted on train."""
    _lines(table, axes, "val_loss", "loss")
    rises = table.groupby(["variant", "cell"])["val_loss"].agg(lambda losses: losses.iloc[-1] - losses.min())
    rise = rises.groupby("variant", sort=False).mean()
    title = "No validation loss ends above its lowest"
    if rise.max() > 0:
        title = f"Validation loss of {rise.idxmax()} ends {rise_text(rise.max())} above its lowest"
    axes.set(title=title, ylabel="cross-entropy (nats), dotted: train")


def accuracy_axes(table: pd.DataFrame, axes: Axes) -> None:
    """Accuracy over the epochs: solid on validation, dotted on train."""
    _lines(table, axes, "val_binary_accuracy", "binary_accuracy")
    last = _final(table, "val_binary_accuracy")
    title = f"{last.idxmax()} ends highest on validation, at {100 * last.max():.1f}%"
    axes.set(title=title, ylabel="accuracy, dotted: train")
    axes.yaxis.set_major_formatter(PERCENT)


def gap_axes(table: pd.DataFrame, axes: Axes) -> None:
    """Accuracy on train minus that on validation, in points, over the epochs, as logged in training."""
    points = table.assign(gap=100 * table["gap"])
    _lines(points, axes, "gap")
    last = _final(points, "gap")
    axes.axhline(0, color="#888888", linewidth=1)
    title = f"{last.idxmax()} ends with the widest training gap: {last.max():+.1f} points"
    axes.set(title=title, ylabel="accuracy on train minus validation (points)")


def _final(table: pd.DataFrame, name: str) -> pd.Series:
    """By variant, the mean over its seeds at their last epochs."""
    return table.groupby("cell").last().groupby("variant")[name].mean()


def _lines(table: pd.DataFrame, axes: Axes, name: str, dotted: str | None = None) -> None:
    """Each variant's mean over its seeds, in a band from the lowest to the highest."""
    seeds = table.groupby("variant")["seed"].nunique()
    for variant, style in styles(list(table["variant"].unique())).items():
        by_epoch = table[table["variant"] == variant].groupby("epoch")
        course = by_epoch[name].agg(["mean", "min", "max"])
        label = f"{variant} ({seeds[variant]} seeds)" if seeds[variant] > 1 else variant
        every = max(1, len(course) // 8)
        axes.plot(course.index, course["mean"], label=label, markersize=4, markevery=every, **style)
        axes.fill_between(course.index, course["min"], course["max"], color=style["color"], alpha=0.18, linewidth=0)
        if dotted:
            axes.plot(by_epoch[dotted].mean(), linestyle=":", linewidth=1.3, color=style["color"])
    axes.set_xlabel("epoch (band: all its seeds)" if seeds.max() > 1 else "epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def accuracies(table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """Every model's accuracy with its Wilson interval, a line a variant; `table` is comparison.csv."""
    means = table.groupby("variant")["val_binary_accuracy"].mean().sort_values()
    with drawing.canvas(path, SIZE[0], 1.5 + 0.42 * len(means)) as (_, (axes,)):
        for line, variant in enumerate(means.index):
            cells = table[table["variant"] == variant].sort_values("seed")
            places = line + (np.linspace(-0.22, 0.22, len(cells)) if len(cells) > 1 else np.zeros(1))
            look = looks[variant]
            axes.hlines(places, cells["interval_low"], cells["interval_high"], color=look["color"], alpha=0.5)
            axes.plot(cells["val_binary_accuracy"], places, markersize=5, linestyle="", **look)
        axes.set_yticks(range(len(means)), means.index)
        axes.xaxis.set_major_formatter(PERCENT)
        title = f"{means.index[-1]} is most accurate: {100 * means.iloc[-1]:.1f}%"
        label = "accuracy on validation with 95% CI (one dot per seed)"
        axes.set(title=title, xlabel=label, ylim=(-0.6, len(means) - 0.4))


def differences(pairs: Sequence[RecipePair], path: Path, most: int = 15) -> None:
    """The pairs' differences with their intervals; filled dots are significant."""
    shown = list(pairs)[:most][::-1]
    significant = sum(pair.significant for pair in pairs)
    with drawing.canvas(path, SIZE[0], 1.5 + 0.42 * len(shown)) as (_, (axes,)):
        for line, pair in enumerate(shown):
            colour = drawing.TRAIN if pair.significant else "#808080"
            axes.hlines(line, 100 * pair.estimate.low, 100 * pair.estimate.high, color=colour)
            face = colour if pair.significant else "none"
            axes.plot(100 * pair.estimate.difference, line, "o", color=colour, markerfacecolor=face)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_yticks(range(len(shown)), [f"{pair.first}\nover {pair.second}" for pair in shown], fontsize=8)
        if len(pairs) == 1:
            title = f"The difference is {'' if significant else 'not '}significant"
        else:
            title = f"{significant or 'None'} of {len(pairs)} differences are significant"
        axes.set(title=title, xlabel="difference of accuracy (points) with 95% CI", ylim=(-0.6, len(shown) - 0.4))


def cost(table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """Accuracy over multiply-adds, the mean of each variant's seeds; the line joins the Pareto-optimal ones."""
    means = table.groupby("variant", sort=False)[["multiply_adds", "val_binary_accuracy"]].mean()
    front = statistics.pareto_front(means["multiply_adds"], means["val_binary_accuracy"])
    best = means[front].sort_values("multiply_adds")
    beaten = len(means) - len(best)
    if len(best) == 1:
        title = f"{best.index[0]} is both cheapest and best"
    elif beaten:
        title = f"{beaten} of {len(means)} variants cost more without being more accurate"
    else:
        title = "Each variant trades cost for accuracy"
    with drawing.canvas(path, *SIZE) as (sheet, (axes,)):
        axes.plot(best["multiply_adds"], best["val_binary_accuracy"], color="#888888", drawstyle="steps-post", zorder=1)
        for variant, look in looks.items():
            seeds = table.loc[table["variant"] == variant, "val_binary_accuracy"]
            price, accuracy = means.loc[variant]
            axes.vlines(price, seeds.min(), seeds.max(), color=look["color"], alpha=0.4)
            axes.plot(price, accuracy, label=variant, linestyle="", **look)
        if means["multiply_adds"].max() > 3 * means["multiply_adds"].min():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # a single decade would have one label only
        else:
            axes.set_xlim(0, means["multiply_adds"].max() * 1.15)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:,.4g} M"))
        axes.xaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set(title=title, xlabel="multiply-adds for one image", ylabel="accuracy on validation")
        legend(sheet, axes)


def luck(table: pd.DataFrame, summary: Mapping[str, Any], looks: Styles, path: Path) -> None:
    """Every model's accuracy around its variant's mean, in the band that luck alone explains.

    `table` is comparison.csv, `summary` is comparison.json.
    """
    spreads, selection = list(summary["seeds"])[::-1], summary["selection"]
    with drawing.canvas(path, SIZE[0], 1.7 + 0.42 * len(spreads)) as (_, (axes,)):
        for line, spread in enumerate(spreads):
            accuracy = table.loc[table["variant"] == spread["variant"], "val_binary_accuracy"]
            width = 2 * norm.ppf((1 + LEVEL) / 2) * spread["predicted"]
            axes.barh(line, width, 0.5, accuracy.mean() - width / 2, color="#888888", alpha=0.25, linewidth=0)
            axes.plot(accuracy, np.full(len(accuracy), line), linestyle="", markersize=5, **looks[spread["variant"]])
        axes.use_sticky_edges = False  # a band needs a margin too
        if selection["models"] > 1:
            axes.axvline(selection["corrected"], color="#888888", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(spreads)), [spread["variant"] for spread in spreads])
        axes.xaxis.set_major_formatter(PERCENT)
        wide = sum(spread["excessive"] for spread in spreads)
        title = f"Seeds of {wide} variant{'s' * (wide > 1)} spread more than luck explains"
        if not wide:
            title = "No variant's seeds spread more than luck explains"
        if all(spread["observed"] is None for spread in spreads):
            title = "What another seed would change by luck alone"
        label = "accuracy on validation (band: 95% of equally good models)"
        axes.set(title=title, xlabel=label, ylim=(-0.6, len(spreads) - 0.4))
