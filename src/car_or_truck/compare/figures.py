"""The pictures of a comparison: curves of all variants, their gaps, their differences, quality over cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from car_or_truck import drawing
from car_or_truck.compare import statistics
from car_or_truck.compare.verdict import RecipePair

SIZE = (5.4, 4.1)  # inches: legible on a phone
PER_CENT = FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
Styles = Mapping[str, dict[str, object]]


def styles(variants: Sequence[str]) -> Styles:
    """A colour and a marker for each variant; the eight colours come again with other markers."""
    colours = drawing.STYLE["axes.prop_cycle"].by_key()["color"]
    markers = "osD^vPX*"
    return {
        name: {"color": colours[place % len(colours)], "marker": markers[place // len(colours) % len(markers)]}
        for place, name in enumerate(variants)
    }


def curves(table: pd.DataFrame, path: Path) -> None:
    """Loss and accuracy side by side; `table` is curves.csv."""
    with drawing.canvas(path, 10.5, 4.6, 2) as (sheet, (loss, accuracy)):
        loss_axes(table, loss)
        accuracy_axes(table, accuracy)
        _legend(sheet, loss)


def alone(draw: Callable[[pd.DataFrame, Axes], None], table: pd.DataFrame, path: Path) -> None:
    """One of the axes below as a figure of its own."""
    with drawing.canvas(path, *SIZE) as (sheet, (axes,)):
        draw(table, axes)
        _legend(sheet, axes)


def _legend(sheet: mpl.figure.Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 24:
        return  # a legend larger than the figure; the table names them
    columns = max(1, min(4, round(sheet.get_figwidth() * 6.5 / (max(map(len, labels)) + 4))))
    sheet.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def loss_axes(table: pd.DataFrame, axes: Axes) -> None:
    """Loss over the epochs: solid on valid, dotted on train."""
    _course(table, axes, "loss")
    final = table.groupby("cell").agg(last=("val_loss", "last"), least=("val_loss", "min"), variant=("variant", "last"))
    rise = (final["last"] - final["least"]).groupby(final["variant"]).mean()
    worst = rise.idxmax()
    axes.set_title(
        f"On valid, {worst}'s loss ends {rise[worst]:.2f} above its lowest"
        if rise[worst] >= 0.005
        else "No loss on valid ends above its lowest"
    )
    axes.set_ylabel("cross-entropy (nats), dotted: train")


def accuracy_axes(table: pd.DataFrame, axes: Axes) -> None:
    """Accuracy over the epochs: solid on valid, dotted on train."""
    _course(table, axes, "binary_accuracy")
    last = table.groupby("cell").last().groupby("variant")["val_binary_accuracy"].mean()
    axes.set_title(f"{last.idxmax()} ends highest on valid, at {100 * last.max():.1f} %")
    axes.set_ylabel("accuracy, dotted: train")
    axes.yaxis.set_major_formatter(PER_CENT)


def gap_axes(table: pd.DataFrame, axes: Axes) -> None:
    """Accuracy on train minus that on valid, in points, over the epochs."""
    _band(table.assign(points=100 * table["gap"]), axes, "points")
    last = 100 * table.groupby("cell").last().groupby("variant")["gap"].mean()
    axes.axhline(0, color="#888888", linewidth=1)
    axes.set_title(f"{last.idxmax()} ends with the widest gap: {last.max():+.1f} points")
    axes.set_ylabel("accuracy on train minus valid (points)")
    _epochs(table, axes)


def _course(table: pd.DataFrame, axes: Axes, name: str) -> None:
    _band(table, axes, f"val_{name}")
    for variant, style in styles(list(table["variant"].unique())).items():
        mean = table[table["variant"] == variant].groupby("epoch")[name].mean()
        axes.plot(mean.index, mean, linestyle=":", linewidth=1.3, color=style["color"])
    _epochs(table, axes)


def _band(table: pd.DataFrame, axes: Axes, name: str) -> None:
    """Each variant's mean over its seeds, in a band from their least to their greatest."""
    for variant, style in styles(list(table["variant"].unique())).items():
        of_variant = table[table["variant"] == variant]
        seeds = of_variant["seed"].nunique()
        by_epoch = of_variant.groupby("epoch")[name]
        mean = by_epoch.mean()
        label = f"{variant} ({seeds} seeds)" if seeds > 1 else str(variant)
        every = max(1, len(mean) // 8)
        axes.plot(mean.index, mean, label=label, markersize=4, markevery=every, **style)
        if seeds > 1:
            axes.fill_between(mean.index, by_epoch.min(), by_epoch.max(), color=style["color"], alpha=0.18, linewidth=0)


def _epochs(table: pd.DataFrame, axes: Axes) -> None:
    axes.set_xlabel("epoch" if table.groupby("variant")["seed"].nunique().max() == 1 else "epoch (band: all its seeds)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def accuracies(table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """Every cell's accuracy with its Wilson interval, a line for each variant; `table` is comparison.csv's."""
    means = table.groupby("variant")["val_binary_accuracy"].mean().sort_values()
    with drawing.canvas(path, SIZE[0], 1.5 + 0.42 * len(means)) as (_, (axes,)):
        for line, variant in enumerate(means.index):
            cells = table[table["variant"] == variant].sort_values("seed")
            places = line + np.linspace(-0.22, 0.22, len(cells)) if len(cells) > 1 else [line]
            for place, cell in zip(places, cells.itertuples(), strict=True):
                axes.plot(
                    [cell.interval_low, cell.interval_high], [place] * 2, color=looks[variant]["color"], alpha=0.5
                )
                axes.plot(cell.val_binary_accuracy, place, markersize=5, linestyle="", **looks[variant])
        axes.set_yticks(range(len(means)), means.index)
        axes.set_ylim(-0.6, len(means) - 0.4)
        axes.xaxis.set_major_formatter(PER_CENT)
        axes.set_xlabel("accuracy on valid, with 95 % interval (a dot a seed)")
        axes.set_title(f"{means.index[-1]} is right most often: {100 * means.iloc[-1]:.1f} %")


def differences(pairs: Sequence[RecipePair], path: Path, most: int = 15) -> None:
    """The pairs' differences with their intervals; full dots are certain."""
    shown = list(pairs)[:most][::-1]
    certain = sum(pair.certain for pair in pairs)
    with drawing.canvas(path, SIZE[0], 1.5 + 0.42 * len(shown)) as (_, (axes,)):
        for line, pair in enumerate(shown):
            colour = drawing.TRAIN if pair.certain else "#808080"
            axes.plot([100 * pair.found.low, 100 * pair.found.high], [line] * 2, color=colour)
            face = colour if pair.certain else "none"
            axes.plot(100 * pair.found.difference, line, "o", color=colour, markerfacecolor=face)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_yticks(range(len(shown)), [f"{pair.first}\nover {pair.second}" for pair in shown], fontsize=8)
        axes.set_xlabel("difference of accuracy (points), with 95 % interval")
        count = "The one pair" if len(pairs) == 1 else f"{certain or 'None'} of {len(pairs)} pairs"
        told = "can" if certain or len(pairs) > 1 else "cannot"
        axes.set_title(f"{count} {told} be told apart")


def cost(table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """Accuracy over multiply-adds, the mean of each variant's seeds; the line joins what none beats in both."""
    means = table.groupby("variant", sort=False)[["multiply_adds", "val_binary_accuracy"]].mean()
    front = statistics.pareto_front(means["multiply_adds"], means["val_binary_accuracy"])
    best = means[front].sort_values("multiply_adds")
    with drawing.canvas(path, *SIZE) as (sheet, (axes,)):
        axes.plot(best["multiply_adds"], best["val_binary_accuracy"], color="#888888", drawstyle="steps-post", zorder=1)
        for variant, look in looks.items():
            seeds = table.loc[table["variant"] == variant, "val_binary_accuracy"]
            axes.plot(
                [means.loc[variant, "multiply_adds"]] * 2, [seeds.min(), seeds.max()], color=look["color"], alpha=0.4
            )
            spot = means.loc[variant]
            axes.plot(spot["multiply_adds"], spot["val_binary_accuracy"], label=variant, linestyle="", **look)
        if means["multiply_adds"].max() > 3 * means["multiply_adds"].min():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # one decade alone would have one label
        else:
            axes.set_xlim(0, means["multiply_adds"].max() * 1.15)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:,.4g} M"))
        axes.xaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter(PER_CENT)
        axes.set_xlabel("multiply-adds for one image")
        axes.set_ylabel("accuracy on valid")
        beaten = len(means) - int(front.sum())
        axes.set_title(
            f"{best.index[0]} is both cheapest and best"
            if len(best) == 1
            else f"More accuracy costs more; {beaten} of {len(means)} do not pay"
            if beaten
            else "Each variant buys its accuracy with its cost"
        )
        _legend(sheet, axes)
