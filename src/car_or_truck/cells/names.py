"""What a run, and a registered version, say of their cell: names, tags and parameters."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from car_or_truck.train.recipe import Block, Recipe, Strict

NAME = "car-or-truck"  # of the experiment and of the registered model


def experiment_name(cell: dict[str, Any]) -> str:
    """Experiment and registered model of a cell; the stand-in's stand apart from real results."""
    return f"{NAME}-rendered" if cell["data"]["stand_in"] else NAME


def history_name(model: str) -> str:
    """The experiment that lists the promotions of a registered model."""
    return f"{model}-promotions"


def run_name(cell: dict[str, Any]) -> str:
    """VARIANT-SEED."""
    return f"{cell['variant']}-{cell['seed']}"


def tags(cell: dict[str, Any]) -> dict[str, str]:
    """The cell, its data, and the stage, experiment and commit that made it."""
    commit, dirty = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    found = {
        "cell": cell["cell"],
        "variant": cell["variant"],
        "seed": str(cell["seed"]),
        "precision": cell["precision"],
        "data.source": cell["data"]["source"],
        "data.digest": cell["data"]["digest"],
        "dvc.stage": os.environ.get("DVC_STAGE", ""),
        "dvc.exp": os.environ.get("DVC_EXP_NAME", ""),
        "git.commit": commit or "",
        "git.dirty": str(bool(dirty)).lower() if commit else "",
    }
    if commit:
        found["mlflow.source.git.commit"] = commit
    return {key: value for key, value in found.items() if value}


def git(*arguments: str, strip: bool = True) -> str | None:
    """What git says; None where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if strip else done.stdout


def parameters(cell: dict[str, Any]) -> dict[str, Any]:
    """The recipe on one level of names, without what is left at its default, and what the cells share."""
    shared = {"train.batch_size": cell["batch_size"], "data.image_size": cell["data"]["image_size"]}
    return {f"recipe.{key}": value for key, value in _flat(cell["recipe"]).items()} | shared


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    fields = ((key, field.default) for key, field in Recipe.model_fields.items() if not field.is_required())
    defaults = {
        key: default.model_dump(exclude_none=True) if isinstance(default, Strict) else default
        for key, default in fields
    }
    for key, value in recipe.items():
        if key == "blocks" and value:
            flat[key] = "; ".join(_line(Block.model_validate(block)) for block in value)
        elif not value or (value == defaults.get(key) and key not in ("shuffle", "keep")):
            continue
        elif key == "initial_from":
            flat |= {f"initial_from.{inner}": setting for inner, setting in _flat(value).items()}
        elif isinstance(value, dict):
            flat |= {f"{key}.{inner}": _plain(setting) for inner, setting in value.items()}
        else:
            flat[key] = value
    return flat


def _line(block: Block) -> str:
    """A block in a few words: "2x 128 of 3x3, batch_norm"."""
    said = {"filters", "kernel_size", "convs"}
    rest = block.model_dump(exclude=said, exclude_defaults=True).items()
    words = [key if value is True else f"{key} {value}" for key, value in rest]
    size = f"{block.filters} of {block.kernel_size}x{block.kernel_size}"
    return ", ".join([f"{block.convs}x {size}" if block.convs > 1 else size, *words])


def _plain(setting: Any) -> Any:
    return ", ".join(map(str, setting)) if isinstance(setting, list) else setting
