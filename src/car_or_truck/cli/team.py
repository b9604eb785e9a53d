"""Verbs for more than one person, or more than one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from car_or_truck.cli.app import app, console

PANEL = "Team"  # of the help


@app.command(rich_help_panel=PANEL)
def repro(
    context: typer.Context,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Models at a time, on this machine.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Train on this Ray cluster (local: one made here).")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="Processors for each model, with --ray.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs for each model, with --ray.")] = 0,
    retries: Annotated[int, typer.Option(min=0, help="Restarts of a model whose node died, with --ray.")] = 3,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Send checkpoints to DVC's remote this often, with --ray.")
    ] = 60,
) -> None:
    """Run `dvc repro` with models side by side.

    A failed model does not stop the others. Run it again to resume what was interrupted.

    A model computes with train.threads processor threads however many train at once, so -j changes no number. With
    train.threads: null that is all of them: set it to cores / N for the best use of N at a time (it rounds
    differently), and with --ray so that unlike nodes train alike.

    Example: car-or-truck repro -j 2
    """
    if ray is None:
        for name in ("cpus", "gpus", "retries", "checkpoint_every"):
            source = context.get_parameter_source(name)
            if source and source.name == "COMMANDLINE":
                raise typer.BadParameter("needs --ray", param_hint="--" + name.replace("_", "-"))
    elif jobs > 1:
        raise typer.BadParameter("goes without --ray, whose cluster decides how many run at a time", param_hint="-j")
    from car_or_truck import params

    loaded = params.load()
    if ray is None:
        from car_or_truck.commands import repro

        repro.repro(loaded, jobs, console())
    else:
        from car_or_truck.commands import cluster

        cluster.repro_on_ray(loaded, ray, cluster.Needs(cpus, gpus, retries, checkpoint_every), console())


@app.command(rich_help_panel=PANEL)
def work(
    cells: Annotated[list[str], typer.Argument(metavar="MODEL", help="VARIANT-SEED, such as tutorial-31415.")],
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Send the checkpoint to DVC's remote this often.")
    ] = 60,
) -> None:
    """Train models of this commit, and push the results.

    Pulls the images first, and evaluates what it trained.

    Checkpoints go to DVC's remote, so that another machine continues what this one could not finish.

    Example: car-or-truck work tutorial-31415 exercise-31415
    """
    from car_or_truck import params
    from car_or_truck.commands import work

    work.work(params.load(), cells, checkpoint_every)


@app.command(rich_help_panel=PANEL)
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
