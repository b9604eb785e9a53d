"""Verbs for more than one person, or more than one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from car_or_truck.cli.app import app


@app.command()
def merge_lock(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The last version that both sides share.")],
    ours: Annotated[Path, typer.Argument(metavar="OURS", help="One side; the result is written here.")],
    theirs: Annotated[Path, typer.Argument(metavar="THEIRS", help="The other side.")],
) -> None:
    """Merge two versions of dvc.lock; git calls it.

    Stage by stage, in `git merge`, once `make` has registered it.

    Example: car-or-truck merge-lock base.lock dvc.lock theirs.lock
    """
    from car_or_truck.commands import merge_lock

    merge_lock.merge_lock(base, ours, theirs)
