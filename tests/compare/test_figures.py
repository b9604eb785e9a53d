"""What the figures of a comparison say, read from the SVG that the report shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from car_or_truck import drawing
from car_or_truck.compare import figures, verdict_figures
from car_or_truck.compare.overfitting import Gap
from car_or_truck.compare.statistics import Difference
from car_or_truck.compare.verdict import RecipePair


def curves(variants: int, epochs: int = 8) -> pd.DataFrame:
    """curves.csv: validation accuracy rises from 0.5 to 0.9, and the gap from 0 to 0.07."""
    rows = [
        {
            "cell": f"v{variant}-7",
            "variant": f"v{variant}",
            "seed": 7,
            "epoch": epoch,
            "loss": 0.5,
            "binary_accuracy": 0.9,
            "val_loss": 1 / epoch,
            "val_binary_accuracy": 0.5 + 0.4 * (epoch - 1) / (epochs - 1),
            "gap": (epoch - 1) / 100,
        }
        for variant in range(variants)
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows)


def looks(variants: int) -> figures.Styles:
    return figures.styles(drawing.variant_colours([f"v{place}" for place in range(variants)]))


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)<", path.read_text())


@pytest.mark.parametrize(("variants", "panels"), [(3, 1), (5, 5), (14, 12)])
def test_more_than_three_variants_have_a_panel_each(variants: int, panels: int, tmp_path: Path) -> None:
    figures.over_epochs(figures.LOSS, curves(variants), looks(variants), tmp_path / "loss.svg")
    drawn = (tmp_path / "loss.svg").read_text()
    assert len(re.findall(r'id="axes_\d+"', drawn)) == panels
    assert [f"v{place}" in texts(tmp_path / "loss.svg") for place in range(variants)] == [
        panels == 1 or place < panels for place in range(variants)
    ]
    assert "<title>No validation loss ends above its lowest" in drawn  # its accessible name
    assert ("the 12 most accurate" in drawn) == (variants > 12)


def test_the_title_on_accuracy_knows_ties_and_single_variants() -> None:
    three = curves(3)
    assert figures.message(figures.ACCURACY, three) == "3 variants end highest on validation, at 90.0%"
    three.loc[three["variant"] == "v1", "val_binary_accuracy"] += 0.01
    assert figures.message(figures.ACCURACY, three) == "v1 ends highest on validation, at 91.0%"
    assert figures.message(figures.ACCURACY, curves(1)) == "v0 ends on validation at 90.0%"


def test_variants_whose_seeds_are_equally_accurate_on_average_are_tied_in_every_figure(tmp_path: Path) -> None:
    table = pd.DataFrame({"variant": ["v0", "v0", "v1", "v1"], "seed": [7, 8, 7, 8], "multiply_adds": 1e6})
    table["val_binary_accuracy"] = np.array([36, 32, 34, 34]) / 40
    table = table.assign(interval_low=table["val_binary_accuracy"] - 0.1, interval_high=table["val_binary_accuracy"])
    verdict_figures.accuracies(table, looks(2), tmp_path / "accuracies.svg")
    assert "<title>2 variants are most accurate: 85.0%</title>" in (tmp_path / "accuracies.svg").read_text()
    figures.cost(table, looks(2), tmp_path / "cost.svg")
    assert "<title>No variant is cheaper or more accurate than v0</title>" in (tmp_path / "cost.svg").read_text()
    logged = table.assign(cell=["v0-7", "v0-8", "v1-7", "v1-8"], epoch=1).astype({"val_binary_accuracy": "float32"})
    logged = logged.astype({"val_binary_accuracy": "float64"})  # as Keras logs it
    assert figures.message(figures.ACCURACY, logged) == "2 variants end highest on validation, at 85.0%"


def test_a_training_of_one_epoch_is_a_dot() -> None:
    course, axes = curves(1), Figure().add_subplot()
    for epochs, marker in ((1, "o"), (2, "None")):
        axes.clear()
        figures.panel(figures.ACCURACY, course[course["epoch"] <= epochs], looks(1), axes)
        assert [line.get_marker() for line in axes.lines] == [marker, marker]


def test_the_gap_is_drawn_from_where_half_is_learned() -> None:
    points = figures.convert_to_points(curves(2))
    assert sorted(set(points["epoch"])) == [5, 6, 7, 8]
    assert points["gap"].max() == pytest.approx(7)


def test_a_later_dip_hides_no_gap() -> None:
    dipping = curves(2)
    dipping.loc[(dipping["variant"] == "v1") & (dipping["epoch"] == 7), "val_binary_accuracy"] = 0.5
    assert figures.convert_to_points(dipping).query("variant == 'v1'")["epoch"].tolist() == [5, 6, 7, 8]


def test_a_mean_goes_only_as_far_as_all_seeds(tmp_path: Path) -> None:
    long, short = curves(1, 8), curves(1, 4).assign(seed=8)
    figures.over_epochs(figures.LOSS, pd.concat([long, short]), looks(1), tmp_path / "loss.svg")
    assert {"3", "4"} <= set(texts(tmp_path / "loss.svg"))
    assert not {"5", "6", "8"} & set(texts(tmp_path / "loss.svg"))


def test_a_gap_starts_where_all_seeds_have_learned_half() -> None:
    late = curves(1).assign(seed=8, cell="v0-8")
    late.loc[late["epoch"] < 8, "val_binary_accuracy"] = 0.5
    axes = Figure().add_subplot()
    figures.panel(
        figures.GAP, figures.convert_to_points(pd.concat([curves(1), late], ignore_index=True)), looks(1), axes
    )
    assert list(axes.lines[0].get_xdata()) == [8]
    stopped = pd.concat([curves(1, 8).query("epoch < 5"), late.query("epoch > 6")], ignore_index=True)
    axes.clear()
    figures.panel(figures.GAP, stopped, looks(1), axes)  # no epoch is in both
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("costs", "accuracies", "title"),
    [
        ((1e6, 2e6), (0.8, 0.9), "Each variant trades cost for accuracy"),
        ((1e6, 2e6), (0.9, 0.8), "No variant is cheaper or more accurate than v0"),
        ((2e6, 2e6), (0.9, 0.8), "No variant is cheaper or more accurate than v0"),
        ((2e6, 2e6), (0.9, 0.9), "No variant is cheaper or more accurate than v0"),
        ((1e6, 2e6, 2e6), (0.7, 0.9, 0.8), "1 of 3 variants costs no less than a better one"),
    ],
)
def test_the_title_on_cost_is_true_of_equal_costs_too(
    costs: tuple[float, ...], accuracies: tuple[float, ...], title: str, tmp_path: Path
) -> None:
    names = [f"v{place}" for place in range(len(costs))]
    table = pd.DataFrame({"variant": names, "multiply_adds": costs, "val_binary_accuracy": accuracies})
    figures.cost(table, looks(len(costs)), tmp_path / "cost.svg")
    assert f"<title>{title}</title>" in (tmp_path / "cost.svg").read_text()


@pytest.mark.parametrize(
    ("p_values", "title"),
    [
        ((0.01,), "The difference is significant"),
        ((0.2, 0.3), "None of 2 differences are significant"),
        ((0.01, 0.2, 0.3), "1 of 3 differences is significant"),
        ((0.01, 0.02, 0.3), "2 of 3 differences are significant"),
    ],
)
def test_the_title_on_differences_counts_the_significant_ones(
    p_values: tuple[float, ...], title: str, tmp_path: Path
) -> None:
    estimate = Difference(0.02, 0.01, 0.03, 0.01)
    pairs = [RecipePair(f"v{place}", "base", estimate, p, (1, 1), 40, None, None) for place, p in enumerate(p_values)]
    verdict_figures.differences(pairs, tmp_path / "differences.svg")
    assert f"<title>{title}</title>" in (tmp_path / "differences.svg").read_text()


def test_a_name_in_a_figure_is_no_formula(tmp_path: Path) -> None:
    with drawing.contact_sheet(tmp_path / "sheet.png", 1, 1, "$^{b$") as tiles:
        tiles[0].caption("a$5_vs_$6.jpg")


def test_the_widest_gap_comes_first_with_its_values(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "variant": ["v0", "v1", "v1"],
            "seed": [7, 7, 8],
            "collapsed": [False, False, False],
            "val_binary_accuracy": [0.9, 0.7, 0.8],
            "train_binary_accuracy": [0.91, 0.9, 0.94],
        }
    )
    gaps = [Gap("v1", 0.17, "strong"), Gap("v0", 0.01, "none")]
    verdict_figures.dumbbell(table, gaps, looks(2), tmp_path / "drawn.svg")
    output = texts(tmp_path / "drawn.svg")
    assert "v1 overfits most: a gap of 17.0 points" in output
    assert {"75.0", "92.0", "17.0 points", "strong", "90.0", "91.0", "1.0 points", "none"} <= set(output)
