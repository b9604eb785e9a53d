"""`tune`: a search over keys of a variant, by Optuna, on a fold of train. The validation set is never read."""

from __future__ import annotations

import hashlib
import io
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from car_or_truck import paths
from car_or_truck.cells.cell import read_dataset, start_training
from car_or_truck.cells.times import duration
from car_or_truck.commands import search_space
from car_or_truck.commands.search import BASELINE, RIGHT, Search, done_trials, next_trial, run_trial
from car_or_truck.commands.search_space import Dimension
from car_or_truck.compare.luck import select_best
from car_or_truck.compare.statistics import paired_difference
from car_or_truck.errors import Failure, summarize
from car_or_truck.params import Params
from car_or_truck.tracking import faults, store, trials
from car_or_truck.train import checks


def tune(params: Params, variant: str, over: Sequence[str], count: int, seed: int | None) -> None:
    """Bring the study to `count` trials, and print the winner as YAML; all else goes to stderr."""
    try:
        import optuna
    except ImportError:
        raise Failure("Optuna is not installed: `pip install -e '.[tune]'`.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of many nets in one process: one a trial
    space = search_space.parse(over, params, variant)
    with redirect_stdout(sys.stderr):
        search = _open(params, variant, space, params.train.seeds[0] if seed is None else seed)
        status, winner = "FAILED", ""
        try:
            _run_trials(search, count)
            winner, status = conclude(search), "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            print("\nStopped. The same command continues where the trial is.", flush=True)
            raise
        finally:
            trials.end_study(search.run_id, status, winner)
    print(winner, end="")


def _open(params: Params, variant: str, space: list[Dimension], seed: int) -> Search:
    """The study of these settings; a new one begins with the variant as it is."""
    import optuna

    dataset = read_dataset()
    checks.check_versions(checks.pinned_versions())
    checks.check_weights(params.variants[variant].base)
    cell = start_training(params, variant, seed, dataset)
    if cell.recipe.base:  # without its weights: a Failure here, not a study whose trials all fail
        from car_or_truck.train import convnet

        convnet.build(cell.recipe, cell.data.image_size)
    settings = [cell.fingerprint, *sorted(map(repr, space))]
    name = f"{variant}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    longest = max(
        [cell.recipe.epochs, *(int(end) for dimension in space if dimension.key == "epochs" for end in dimension.ends)]
    )
    database = paths.scratch("tune") / "studies.db"
    with store.one_at_a_time("tune"):
        try:
            study = optuna.create_study(
                storage=f"sqlite:///{database}",
                study_name=name,
                load_if_exists=True,
                direction="maximize",
                pruner=pruner(longest),
            )
        except Exception as error:  # SQLAlchemy's and Optuna's own; Optuna's says little, and wraps the other
            cause = error.__cause__ or error
            remedy = faults.remedy(cause, "Move it away: the search begins anew.")
            raise Failure(f"{database} cannot be used ({summarize(cause, 150)}). {remedy}") from error
        if not study.trials:
            for leftover in database.parent.glob(f"{name}-*.npz"):  # of a study of that name that was moved away
                leftover.unlink()
            own = {item.key: item.as_suggested(search_space.value_of(params, variant, item.key)) for item in space}
            inside = {key: value for key, value in own.items() if value is not None}
            study.enqueue_trial(inside, {BASELINE: sorted(inside)})
        run_id = trials.study_run(name, cell)
    search = Search(params, variant, seed, space, dataset, study, run_id)
    data = search.fold(cell.side)
    print(
        f"Study {name}, trials so far: {len(done_trials(study))}. {len(data.train):,} images of train to train on, "
        f"{len(data.valid):,} held out.\n{cell.threads} threads, {cell.precision}, seed {seed}; "
        f"MLflow experiment {trials.experiment_name(cell)}",
        flush=True,
    )
    return search


def pruner(longest: int) -> Any:
    """Optuna's Hyperband with two brackets: one is pruned after half of so many epochs, the other never.

    Earlier, where the learning rate warms up, accuracy says nothing of where a trial ends.
    """
    import optuna

    half = (longest + 1) // 2  # of an even number: else the other bracket would be pruned one epoch before the end
    return optuna.pruners.HyperbandPruner(half, 2 * half, reduction_factor=2)


def _run_trials(search: Search, count: int) -> None:
    """Run trials until there are `count`, those of other processes included; a line for each."""
    started, before = time.monotonic(), len(done_trials(search.study))
    while following := next_trial(search, count):
        trial, values, lock = following
        try:
            outcome = run_trial(search, trial, values)
        finally:
            lock.release()
        finished_trials, best = done_trials(search.study), ""
        left = (time.monotonic() - started) / (len(finished_trials) - before) * max(0, count - len(finished_trials))
        complete = [candidate for candidate in finished_trials if RIGHT in candidate.user_attrs]
        if complete:
            leader = max(complete, key=lambda candidate: (candidate.value, -candidate.number))
            best = f"; best {leader.value:.1%} (trial {leader.number})"
        description = ", ".join(f"{key} {value}" for key, value in values.items()) or f"{search.variant} as it is"
        clear = "\033[K" * sys.stdout.isatty()  # of the trial's last epoch
        print(f"{clear}trial {trial.number}: {description}: {outcome}{best}; {duration(left)} left", flush=True)


def conclude(search: Search) -> str:
    """The best trial as YAML for params.yaml, below what is known of it. Pruned trials are no candidates."""
    finished_trials = done_trials(search.study)
    complete = {f"trial {trial.number}": trial for trial in finished_trials if RIGHT in trial.user_attrs}
    if not complete:
        raise Failure(
            f"None of the {len(finished_trials)} trials of {search.study.study_name} was completed, so there is no "
            "winner. Choose other ranges."
        )
    right = {name: np.array(list(trial.user_attrs[RIGHT])) == "1" for name, trial in complete.items()}
    best = select_best(right)
    pruned = sum(trial.state.name == "PRUNED" for trial in finished_trials)
    winner, baseline, variant = complete[best.model], complete.get("trial 0"), search.variant
    lines = [
        f"{best.model.capitalize()} of {len(finished_trials)}, {pruned} of them pruned: {best.accuracy:.1%} "
        f"of the {len(winner.user_attrs[RIGHT]):,} images held out of train."
    ]
    running = len(search.study.get_trials(deepcopy=False)) - len(finished_trials)
    if running:
        lines.append(f"Not counted: {running} under way in another process.")
    if baseline:
        lines.append(f"{variant} as it is, with the same images and seed: {baseline.value:.1%}.")
    if len(complete) > 1:
        lines += [f"Corrected for having been chosen: {best.corrected:.1%}.", best.words]
    if winner is baseline:
        lines.append(f"No trial is better than {variant} as it is.")
    elif baseline:
        lead = paired_difference(right[best.model], right["trial 0"])
        interval = f"{100 * lead.low:z.1f} to {100 * lead.high:z.1f} points"
        lines.append(f"Before this correction, it leads {variant} as it is by {interval} (95% CI).")
        if best.corrected <= baseline.value:
            lines.append(f"After it, it is no better than {variant} as it is.")
    values = {} if winner is baseline else {dimension.key: dimension.suggest(winner) for dimension in search.space}
    recipe = search_space.set_values(search.params, variant, values, best.model).variants[variant]
    if recipe.keep == "best":
        lines.append("It keeps the epoch that was best on the images held out, so all this is optimistically biased.")
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = None, 118  # as in params.yaml: what holds no group stands on one line
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump({"variants": {f"{variant[:26]}-tuned": recipe.model_dump(mode="json", exclude_unset=True)}}, text)
    trials.log_scores(
        search.run_id, {"trials": len(finished_trials), "accuracy": best.accuracy, "corrected": best.corrected}
    )
    entry = text.getvalue().split("\n", 1)[1]
    return "".join(f"  # {line}\n" for line in lines) + entry * (winner is not baseline)
