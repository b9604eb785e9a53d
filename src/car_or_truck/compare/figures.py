"""The figures of a comparison: what happens over the epochs, accuracy over cost, and luck."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from scipy.stats import norm

from car_or_truck import drawing
from car_or_truck.compare import statistics
from car_or_truck.evaluate.scores import LEVEL, rise_text

SIZE = (5.4, 4.1)  # inches; half of the report's width, so that the text of all figures is equally large
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")
GREY = "#b0b0b0"
MOST_TOGETHER, MOST_PANELS = 3, 12  # variants in one panel, and panels in one figure
Styles = Mapping[str, dict[str, object]]


def styles(colours: Mapping[str, str]) -> Styles:
    """A colour and a marker for each variant; where colours repeat, the markers differ."""
    markers = "osD^vPX*"
    return {
        variant: {"marker": markers[place // len(drawing.PALETTE) % len(markers)], "color": colour}
        for place, (variant, colour) in enumerate(colours.items())
    }


class Course(NamedTuple):
    """What is drawn over the epochs, from curves.csv."""

    solid: str
    dotted: str | None
    label: str


LOSS = Course("val_loss", "loss", "cross-entropy (nats)")
ACCURACY = Course("val_binary_accuracy", "binary_accuracy", "accuracy")
GAP = Course("gap", None, "train minus validation accuracy, in points")


def message(course: Course, table: pd.DataFrame) -> str:
    """What the curves show, as the title of their figure."""
    if course is LOSS:
        rises = table.groupby(["variant", "cell"])["val_loss"].agg(lambda losses: losses.iloc[-1] - losses.min())
        rise = rises.groupby("variant", sort=False).mean()
        if rise.max() > 0:
            return f"Validation loss of {rise.idxmax()} ends {rise_text(rise.max())} above its lowest"
        return "No validation loss ends above its lowest"
    last = table.groupby("cell").last().groupby("variant")[course.solid].mean().round(6)  # without float32's noise
    if course is ACCURACY:
        best = last.index[last == last.max()]
        lead = f"{best[0]} ends" if len(best) == 1 else f"{len(best)} variants end"
        where = "highest on validation," if len(last) > 1 else "on validation"
        return f"{lead} {where} at {100 * last.max():.1f}%"
    words = "the highest gap as logged in training:" if len(last) > 1 else "a training gap of"
    return f"{last.idxmax()} ends with {words} {last.max():z.1f} points"


def over_epochs(course: Course, table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """The curves of a few variants together, of more in a panel each; `table` is curves.csv."""
    table = convert_to_points(table) if course is GAP else table
    if len(looks) <= MOST_TOGETHER:
        with drawing.canvas(path, *SIZE) as (sheet, (axes,)):
            axes.set(title=message(course, table), ylabel=course.label + ", dotted: train" * bool(course.dotted))
            panel(course, table, looks, axes)
            legend(sheet, axes)
        return
    variants = list(looks)[:MOST_PANELS]
    rows, title = -(-len(variants) // 2), message(course, table)
    if len(looks) > len(variants):
        title += f" (panels: the {len(variants)} most accurate)"
    with drawing.canvas(path, SIZE[0], 0.8 + 1.5 * rows, 2, rows, title) as (sheet, grid):
        for axes in grid[len(variants) :]:
            axes.remove()
        for axes, variant in zip(grid, variants, strict=False):
            axes.sharex(grid[0])
            axes.sharey(grid[0])
            panel(course, table, {variant: looks[variant]}, axes)
            axes.set_title(variant, fontsize=min(10, 240 / len(variant)), color=looks[variant]["color"])
        for place, axes in enumerate(grid[: len(variants)]):
            axes.set_xlabel("epoch" if place + 2 >= len(variants) else "")
            axes.tick_params(labelleft=place % 2 == 0, labelbottom=place + 2 >= len(variants))
        sheet.supylabel(course.label + ", dotted: train" * bool(course.dotted), fontsize=10)


def convert_to_points(table: pd.DataFrame) -> pd.DataFrame:
    """The gap in points, from the epoch on at which validation accuracy has come half of its way.

    Before, a model has hardly learned anything, and its gap is noise.
    """
    accuracy = table.groupby("cell")["val_binary_accuracy"]
    halfway = (accuracy.transform("min") + accuracy.transform("max")) / 2
    above = table["val_binary_accuracy"] >= halfway
    return table[above.groupby(table["cell"]).cummax()].assign(gap=100 * table["gap"])


def panel(course: Course, table: pd.DataFrame, looks: Styles, axes: Axes) -> None:
    """The mean over the seeds of each variant of `looks`, in a band from the lowest to the highest; others in grey."""
    # Only the epochs that all seeds of a variant have: a mean over fewer would jump where one starts or stops.
    epochs = table.groupby(["variant", "seed"])["epoch"].agg(["min", "max"]).groupby("variant")
    first, last = (table["variant"].map(shared) for shared in (epochs["min"].max(), epochs["max"].min()))
    table = table[table["epoch"].between(first.where(first <= last, 0), last)]  # without such epochs, what there is
    means = table.groupby(["variant", "epoch"])[course.solid].agg(["mean", "min", "max"])
    for variant in means.index.unique("variant").difference(list(looks), sort=False):
        axes.plot(means.loc[variant, "mean"], color=GREY, linewidth=0.7, zorder=1)
    seeds = table.groupby("variant")["seed"].nunique()
    for variant, look in looks.items():
        own, colour = means.loc[variant], look["color"]
        marker = "o" if len(own) == 1 else None  # a line of one epoch would be invisible
        label = f"{variant} ({seeds[variant]} seeds)" if seeds[variant] > 1 else variant
        axes.plot(own["mean"], label=label, color=colour, marker=marker)
        axes.fill_between(own.index, own["min"], own["max"], color=colour, alpha=0.18, linewidth=0)
        if course.dotted:
            dotted = table[table["variant"] == variant].groupby("epoch")[course.dotted].mean()
            axes.plot(dotted, linestyle=":", linewidth=1.3, color=colour, marker=marker, markerfacecolor="none")
        if course is LOSS:
            axes.plot(own["mean"].idxmin(), own["mean"].min(), "o", color=colour, markersize=5)
    if course is LOSS:
        axes.set_yscale("log")  # a spike early in a training would flatten all that follows
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    elif course is ACCURACY:
        axes.yaxis.set_major_formatter(PERCENT)
    else:
        axes.axhline(0, color="#888888", linewidth=1)
    axes.set_xlabel("epoch (band: all seeds)" if seeds.max() > 1 else "epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def legend(sheet: Figure, axes: Axes) -> None:
    """The legend of `axes`, below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 24:
        return  # a legend larger than the figure; the table names them
    columns = legend_columns(sheet, labels)
    more_rows = max(0, -(-len(labels) // columns) - 2)
    sheet.set_figheight(sheet.get_figheight() + 0.19 * more_rows)
    sheet.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def legend_columns(sheet: Figure, labels: Collection[str]) -> int:
    """How many columns of such labels have room in the figure's width."""
    return max(1, min(4, int(sheet.get_figwidth() * 13 / (max(map(len, labels)) + 7))))


def cost(table: pd.DataFrame, looks: Styles, path: Path) -> None:
    """Accuracy over multiply-adds, the mean of each variant's seeds; the line joins the Pareto-optimal ones."""
    means = table.groupby("variant", sort=False)[["multiply_adds", "val_binary_accuracy"]].mean().round(6)
    front = statistics.pareto_front(means["multiply_adds"], means["val_binary_accuracy"])
    best = means[front].sort_values("multiply_adds")
    beaten = len(means) - len(best)
    if best["multiply_adds"].min() == best["multiply_adds"].max():
        title = f"No variant is cheaper or more accurate than {best.index[0]}"
    elif beaten:
        title = f"{beaten} of {len(means)} variants {'costs' if beaten == 1 else 'cost'} no less than a better one"
    else:
        title = "Each variant trades cost for accuracy"
    with drawing.canvas(path, SIZE[0], 3.2) as (sheet, (axes,)):
        if len(best) > 1:
            axes.plot(
                best["multiply_adds"], best["val_binary_accuracy"], color="#888888", drawstyle="steps-post", zorder=1
            )
        for variant, look in looks.items():
            seeds = table.loc[table["variant"] == variant, "val_binary_accuracy"]
            price, accuracy = means.loc[variant]
            axes.vlines(price, seeds.min(), seeds.max(), color=look["color"], linewidth=1)
            axes.plot(price, accuracy, label=variant, linestyle="", **look)
        axes.margins(0.12)
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
    ranks, selection = {variant: rank for rank, variant in enumerate(looks)}, summary["selection"]
    spreads = sorted(summary["seeds"], key=lambda spread: -ranks[spread["variant"]])  # the most accurate at the top
    with drawing.canvas(path, SIZE[0], 1.7 + 0.42 * len(spreads)) as (_, (axes,)):
        for line, spread in enumerate(spreads):
            accuracy = table.loc[table["variant"] == spread["variant"], "val_binary_accuracy"]
            width = 2 * norm.ppf((1 + LEVEL) / 2) * spread["predicted"] * (1 + 1 / len(accuracy)) ** 0.5
            low, high = np.clip(accuracy.mean() + np.array([-width, width]) / 2, 0, 1)
            axes.barh(line, high - low, 0.5, low, color="#888888", alpha=0.25, linewidth=0)
            axes.plot(accuracy, np.full(len(accuracy), line), linestyle="", markersize=5, **looks[spread["variant"]])
        axes.use_sticky_edges = False  # a band needs a margin too
        if selection["models"] > 1:
            axes.axvline(selection["corrected"], color="#888888", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(spreads)), [spread["variant"] for spread in spreads])
        axes.xaxis.set_major_formatter(PERCENT)
        wide = sum(spread["excessive"] for spread in spreads)
        title = f"Seeds of {wide} variant{'s' * (wide > 1)} spread significantly more than luck explains"
        if not wide:
            title = "No variant's seeds spread significantly more than luck explains"
        if all(spread["observed"] is None for spread in spreads):
            title = "What another seed would change by luck alone"
        label = "accuracy on validation (band: where luck\nalone puts 95% of further seeds)"
        axes.set(title=title, xlabel=label, ylim=(-0.6, len(spreads) - 0.4))
