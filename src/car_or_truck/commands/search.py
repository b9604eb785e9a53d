"""A search's study in Optuna, and its trials: which comes next, and how it is trained.

A study is all that decides its trials' numbers: the variant as it is, the images, the code, the seed and the
ranges. Trials are asked for under a lock, so that processes share a study, and what one left unfinished goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray

from car_or_truck import paths
from car_or_truck.cells.cell import Cell, Dataset, start_training
from car_or_truck.cells.times import duration
from car_or_truck.commands import search_space
from car_or_truck.commands.search_space import Dimension
from car_or_truck.errors import Failure, summarize
from car_or_truck.params import Params
from car_or_truck.tracking import store, trials
from car_or_truck.train import batches, runtime
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.fit import Data, fit
from car_or_truck.train.recipe import THRESHOLD

if TYPE_CHECKING:
    import optuna

EVERY = 5  # each fifth training image of a class is held out
STARTUP = 5  # trials at random values, before Optuna learns from those that are done
SILENCE = 60  # seconds without a word of a trial, where there is no terminal
BASELINE, RIGHT = "baseline", "right"  # a trial's attributes


@dataclass(frozen=True)
class Search:
    """A study, and what its trials share."""

    params: Params
    variant: str
    seed: int
    space: list[Dimension]
    dataset: Dataset
    study: optuna.Study
    run_id: str  # MLflow's, of the study
    folds: dict[int, Data] = field(default_factory=dict)  # by pixels a side

    def fold(self, side: int) -> Data:
        """The images at `side` pixels; kept, because TensorFlow would not let go of them anyway."""
        if side not in self.folds:
            self.folds[side] = fold(batches.load(paths.PREPARED, "train", side))
        return self.folds[side]


def fold(train: batches.Split) -> Data:
    """Every fifth image of each class held out of `train`, and the others to train on: the same for all trials."""
    held = np.zeros(len(train), bool)
    for label in np.unique(train.labels):
        held[np.flatnonzero(train.labels == label)[::EVERY]] = True
    if len(np.unique(train.labels[~held])) < 2:
        raise Failure(f"{paths.PREPARED}/train is too small for a fold: it needs two images of each class.")
    return Data(*(batches.Split(train.images[part], train.labels[part]) for part in (~held, held)))


def done_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that are over, the pruned and the failed ones included."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def next_trial(search: Search, count: int) -> tuple[optuna.Trial, dict[str, Any], BaseFileLock] | None:
    """One that its process left unfinished, else a new one, its values, and its lock; None when there are enough."""
    import optuna

    study, running = search.study, optuna.trial.TrialState.RUNNING
    with store.one_at_a_time("tune"):
        all_trials = study.get_trials(deepcopy=False)
        started = [trial for trial in all_trials if trial.state == running]
        abandoned = ((trial, lock) for trial in started if (lock := _lock(search, trial.number)))
        unfinished, lock = next(abandoned, (None, None))
        if unfinished:
            trial = optuna.Trial(study, unfinished._trial_id)
        elif sum(other.state != optuna.trial.TrialState.WAITING for other in all_trials) < count:
            trial = study.ask()
            lock = _lock(search, trial.number)
        else:
            return None
        assert lock is not None  # nobody else knows of a new trial
        # By the trial's number, so that a study that was interrupted draws what it would have drawn.
        seed = int(np.random.SeedSequence([search.seed, trial.number]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        baseline = trial.user_attrs.get(BASELINE)  # the keys whose ranges hold the variant's own values
        dimensions = [dimension for dimension in search.space if baseline is None or dimension.key in baseline]
        values = {dimension.key: dimension.suggest(trial) for dimension in dimensions}
    return trial, values if baseline is None else {}, lock


def _lock(search: Search, number: int) -> BaseFileLock | None:
    """A trial's lock, held; None when another process works at the trial."""
    lock = FileLock(paths.scratch("tune") / f"{search.study.study_name}-{number}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def run_trial(search: Search, trial: optuna.Trial, values: Mapping[str, Any]) -> str:
    """Train with these values, and tell the study; returns how it went, in a few words."""
    from optuna.trial import TrialState

    study = search.study
    saved = Checkpoint(paths.scratch("tune") / f"{study.study_name}-{trial.number}.npz")
    saved.read()
    if saved.state.epoch:
        print(f"trial {trial.number} continues after epoch {saved.state.epoch}.", flush=True)
    try:
        changed = search_space.set_values(search.params, search.variant, values, f"trial {trial.number}")
        cell = start_training(changed, search.variant, search.seed, search.dataset)
        with trials.trial_run(search.run_id, trial.number, cell, saved):
            right = _train(search, trial, cell, saved)
    except (Failure, trials.Pruned) as error:  # one that diverged is as bad as one that was pruned: Optuna learns it
        study.tell(trial, state=TrialState.PRUNED)
        outcome = summarize(error)
    except OSError:  # of a full disk, say: the trial goes on in the next call
        raise
    except Exception:
        study.tell(trial, state=TrialState.FAIL)  # or the next call would fail at it again
        raise
    else:
        trial.set_user_attr(RIGHT, "".join("01"[answer] for answer in right.astype(int)))
        study.tell(trial, float(right.mean()))
        outcome = f"{right.mean():.1%}"
    saved.remove()
    return outcome


def _train(search: Search, trial: optuna.Trial, cell: Cell, saved: Checkpoint) -> NDArray[np.bool_]:
    """Whether the trained net is right about each image that was held out. Raises Pruned."""
    import keras

    from car_or_truck.train import convnet

    data, state = search.fold(cell.side), saved.state
    reported_count = len(search.study.trials[trial.number].intermediate_values)  # of a trial that is continued
    first, started = state.epoch, time.monotonic()
    shown_time = started

    def after_epoch(*_: Any) -> None:
        nonlocal reported_count, shown_time
        for row in state.rows[reported_count:]:
            trial.report(row["val_binary_accuracy"], int(row["epoch"]))
        reported_count, epochs = len(state.rows), cell.recipe.epochs
        left = (time.monotonic() - started) / (state.epoch - first) * (epochs - state.epoch)
        accuracy = f"{state.rows[-1]['val_binary_accuracy']:.1%}"
        text = f"trial {trial.number}: epoch {state.epoch} of {epochs}, {accuracy}; {duration(left)} left of it"
        shown_time = _show(text, shown_time)
        if trial.should_prune() and state.epoch < cell.recipe.epochs and BASELINE not in trial.user_attrs:
            raise trials.Pruned(f"pruned after epoch {state.epoch} at {accuracy}")

    with runtime.strategy().scope():
        net = convnet.build(cell.recipe, cell.data.image_size)
        fit(net, cell, data, saved, [keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)])
        probability = net.predict(batches.in_order(data.valid, cell.batch_size), verbose=0)[:, 0]
    return np.asarray((probability > THRESHOLD) == data.valid.labels.astype(bool))


def _show(text: str, shown_time: float) -> float:
    """Show how far a trial is: over what stood there on a terminal, else one line per minute. Returns when it did."""
    current_time = time.monotonic()
    if sys.stdout.isatty():
        print(f"{text}\033[K\r", end="", flush=True)
    elif current_time - shown_time >= SILENCE:
        print(text, flush=True)
    else:
        return shown_time
    return current_time
