"""What MLflow's runs and versions call a cell: names, tags and parameters."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from car_or_truck.git import changes, git
from car_or_truck.train.recipe import Block, Recipe

if TYPE_CHECKING:
    from car_or_truck.cells.cell import Cell

REAL = "car-or-truck"
COMPARISON = "comparison"  # the name of a comparison's run, and the tag that holds its digest
SYNTHETIC = f"{REAL}-rendered"  # what is trained on drawings never stands beside real results


def experiment_name(stand_in: bool) -> str:
    """The experiment, and the registered model, of what is trained on real or on synthetic images."""
    return SYNTHETIC if stand_in else REAL


def promotions_name(model: str) -> str:
    """The experiment that records the promotions of a registered model."""
    return f"{model}-promotions"


def comparison_digest(summary: dict[str, Any]) -> str:
    """SHA-256 of what comparison.json holds: the same comparison is one MLflow run."""
    return hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()


def tags(cell: Cell) -> dict[str, str]:
    """The cell, its data, and the DVC stage, experiment and git commit that make it now."""
    return {
        "cell": cell.fingerprint,
        "variant": cell.variant,
        "seed": str(cell.seed),
        "precision": cell.precision,
        "data.source": cell.data.source,
        "data.digest": cell.data.digest,
        **surroundings(),
    }


def surroundings() -> dict[str, str]:
    """The DVC stage, experiment and git commit that this process runs in."""
    commit = git("rev-parse", "HEAD")
    tags = {"dvc.stage": os.environ.get("DVC_STAGE", ""), "dvc.exp": os.environ.get("DVC_EXP_NAME", "")}
    if commit:
        dirty = str(bool(changes(commit))).lower()
        tags |= {"git.commit": commit, "git.dirty": dirty, "mlflow.source.git.commit": commit}
    return {key: value for key, value in tags.items() if value}


def parameters(cell: Cell) -> dict[str, Any]:
    """The recipe by flat names, without what is left at its default, and what all cells share."""
    shared = {"train.batch_size": cell.batch_size, "data.image_size": cell.data.image_size}
    return {f"recipe.{key}": value for key, value in flat(cell.recipe).items()} | shared


def grouped_parameters(cell: Cell) -> Iterator[str]:
    """`parameters` as text, those of a group in a line: "head: units 6, dropout 0.2"."""
    split = [(*key.removeprefix("recipe.").partition("."), value) for key, value in parameters(cell).items()]
    for group, items in groupby(split, lambda item: item[0]):
        yield f"{group}: {', '.join(f'{name} {value}'.strip() for _, _, name, value in items)}"


def flat(recipe: Recipe, defaults: bool = False) -> dict[str, Any]:
    """A recipe as {"head.dropout": 0.2, "blocks": "32 of 3x3; ...", ...}, with or without values left at their default.

    `shuffle` and `keep` are always there: which of the lesson's ways a training follows.
    """
    tree = recipe.model_dump(mode="json", exclude_defaults=not defaults, exclude_none=defaults)
    tree |= {"blocks": [block_text(block) for block in recipe.blocks], "shuffle": recipe.shuffle, "keep": recipe.keep}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        for name, leaf in value.items() if isinstance(value, dict) else [("", value)]:
            leaves[f"{key}.{name}".rstrip(".")] = leaf
    return {
        key: "; ".join(map(str, value)) if isinstance(value, list) else value
        for key, value in leaves.items()
        if defaults or value != []
    }


def block_text(block: Block) -> str:
    """A block in a few words: "2x 128 of 3x3, batch_norm"."""
    options = block.model_dump(exclude={"filters", "kernel_size", "convs"}, exclude_defaults=True).items()
    size = f"{block.filters} of {block.kernel_size}x{block.kernel_size}"
    words = [key if value is True else f"{key} {value}" for key, value in options]
    return ", ".join([f"{block.convs}x {size}" if block.convs > 1 else size, *words])
