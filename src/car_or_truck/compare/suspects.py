"""Label suspects: validation images that every seed of the best variant gets wrong with confidence.

No model was trained on them, so such an image is mislabelled or hard, and only a person can tell which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from car_or_truck import drawing
from car_or_truck.cells.results import Result
from car_or_truck.drawing import Pixels
from car_or_truck.evaluate.figures import short

# The mean probability of the wrong class, over the seeds. Label smoothing and mixup keep probabilities away from 0 and
# 1, so that a higher limit misses wrong labels: of labels flipped in the validation photographs, one seed of `summit`
# finds 93% at 0.8 and 71% at 0.95; three seeds of `sprint`, 71% and 41%. A lower limit adds hard images instead: with
# the labels as they are, `sprint` suspects 109 images at 0.8 and 211 at 0.7, and finds 79% of the flipped labels there.
CONFIDENCE = 0.8
MOST, COLUMNS = 48, 8  # images on the contact sheet, and in each of its rows


def best_seeds(results: Sequence[Result]) -> list[Result]:
    """The results of the variant with the highest mean accuracy."""
    accuracies = pd.Series([result.correct.mean() for result in results])
    best = accuracies.groupby([result.variant for result in results], sort=False).mean().idxmax()
    return [result for result in results if result.variant == best]


def have_collapsed(seeds: Sequence[Result]) -> bool:
    """Whether one of the models gives the same answer to every image."""
    return any(result.scores["collapsed"] for result in seeds)


def find_suspects(results: Sequence[Result], classes: Sequence[str]) -> pd.DataFrame:
    """suspects.csv, the most confident first; the index is an image's place in the validation set.

    `name` is SPLIT/CLASS/FILE, as in the file of data.exclude; `label` a class; `probability` the mean
    P(second class) of the best variant's seeds; `models_wrong` counts all `models`, not just those.
    A variant of which a seed has collapsed suspects nothing: all that it gets wrong is the rarer class.
    """
    best = best_seeds(results)
    probability = np.mean([result.probability for result in best], axis=0)
    wrong = ~np.any([result.correct for result in best], axis=0)
    wrong &= not have_collapsed(best)
    error = np.abs(best[0].labels - probability)  # the probability of the wrong class
    table = pd.DataFrame(
        {
            "name": "valid/" + best[0].predictions["name"],
            "label": np.asarray(classes)[best[0].labels],
            "probability": probability.round(4),
            "models_wrong": np.sum([~result.correct for result in results], axis=0),
            "models": len(results),
        }
    )
    confident = table.assign(error=error)[wrong & (error > CONFIDENCE)]
    return confident.sort_values("error", ascending=False, kind="stable").drop(columns="error")


def draw(suspects: pd.DataFrame, images: Pixels, positive: str, path: Path) -> None:
    """The contact sheet: the first suspects of all validation `images` [n, h, w, 3]; `positive` is the second class."""
    head = suspects.head(MOST)
    rows = max(1, -(-len(head) // COLUMNS))
    title = f"{len(suspects) or 'No'} label suspect{'s' * (len(suspects) != 1)} on validation"
    if len(suspects) > MOST:
        title += f"; the {MOST} most confident"
    with drawing.contact_sheet(path, COLUMNS, rows, title) as tiles:
        for tile, row in zip(tiles, head.itertuples(), strict=False):
            tile.show(images[row.Index])
            caption = f"{short(row.name)}\n{row.label}: P({positive}) {row.probability:.2f}"
            tile.caption(caption, fontsize=7.5)
