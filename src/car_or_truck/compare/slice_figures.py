"""The figure of the slices: by how much each variant's accuracy drops on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from car_or_truck import drawing
from car_or_truck.compare.figures import SIZE, Styles, legend_columns

MOST_VARIANTS = 6  # more could not be told apart


def drops(rows: Sequence[dict[str, Any]], looks: Styles, path: Path) -> None:
    """A line a slice, a dot a variant, filled if the drop is significant; `rows` is `slices.table` of comparison.json.

    Every variant has the same slices. Of many variants, the first of `looks` are shown.
    """
    table = pd.DataFrame(rows)
    ranked = [variant for variant in looks if variant in set(table["variant"])]
    variants = ranked[:MOST_VARIANTS]
    table = table[table["variant"].isin(variants)]
    labels = table.loc[table["variant"] == variants[0], "label"]
    with drawing.canvas(path, SIZE[0], 1.4 + 0.26 * len(labels)) as (sheet, (axes,)):
        reach = min(0.3, 0.12 * (len(variants) - 1))
        for variant, offset in zip(variants, np.linspace(-reach, reach, len(variants)), strict=True):
            own, look = table[table["variant"] == variant], looks[variant]
            lines = np.arange(len(labels)) + offset
            axes.hlines(lines, 100 * own["drop_low"], 100 * own["drop_high"], color=look["color"], linewidth=1)
            for significant, face in ((True, look["color"]), (False, "none")):
                kind = (own["significant"] == significant).to_numpy()
                label = variant if significant else None
                dots = {"markersize": 5, "linestyle": "", "markerfacecolor": face, "label": label}
                axes.plot(100 * own["drop"][kind], lines[kind], **look, **dots)
        axes.axvline(0, color="#888888", linewidth=1)
        axes.set_yticks(range(len(labels)), labels)
        worst = table[table["significant"]].sort_values("drop").tail(1)
        title = "No slice is significantly weaker" + f" for these {len(variants)}" * (len(ranked) > len(variants))
        if len(worst) and worst["drop"].item() > 0:
            title = f"{worst['variant'].item()} loses {100 * worst['drop'].item():.1f} points: {worst['label'].item()}"
        axes.set(title=title, xlabel="drop (points) with 95% CI; filled: significant")
        axes.set_ylim(len(labels) - 0.4, -0.6)
        if len(variants) > 1:
            heading = f"the {MOST_VARIANTS} most accurate" if len(ranked) > MOST_VARIANTS else None
            columns = legend_columns(sheet, variants)
            sheet.legend(loc="outside lower center", ncols=columns, fontsize=9, title=heading, title_fontsize=9)
