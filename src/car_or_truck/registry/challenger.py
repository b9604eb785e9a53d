"""Which of the compared models stands for promotion, and the champion's answers that it is judged against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from car_or_truck import paths
from car_or_truck.cells import names
from car_or_truck.cells.cell import Cell, Dataset
from car_or_truck.cells.results import Evaluation, Result
from car_or_truck.compare.luck import select_best
from car_or_truck.compare.verdict import listed
from car_or_truck.errors import Failure, summarize
from car_or_truck.fetch.folders import split_name
from car_or_truck.registry import gates, ledger, loading, versions
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, Version
from car_or_truck.tracking import permissions, provenance, runs, store
from car_or_truck.train import batches

if TYPE_CHECKING:
    from car_or_truck.params import Promotion


Key = tuple[str | None, str | None]  # a model's cell and the SHA-256 of its bytes
Newest = dict[Key, Version]


@dataclass(frozen=True)
class Candidate:
    """A compared model, its version, and how the gates that numbers decide judge it."""

    version: Version
    result: Result
    decision: gates.Decision

    @property
    def accuracy(self) -> float:
        """Of the saved weights on validation."""
        return float(self.result.correct.mean())


def name_challenger(limits: Promotion, results: Sequence[Result], dataset: Dataset) -> str:
    """Give the alias challenger to the best of the compared models; returns a line that says which, and why.

    The best is the most accurate of those that pass the gates; before the first champion, if none does, the
    most accurate of all. When it is the champion itself there is no challenger. Without a store that answers
    nothing changes, and the line says so.
    """
    try:
        client = versions.open_registry()
        with store.one_at_a_time("promotion"):
            newest = _newest(client, names.experiment_name(dataset.stand_in))
            return _name(client, limits, results, dataset, newest) + _without_version(results, newest)
    except (Failure, MlflowException, OSError) as error:
        if permissions.is_refusal(error):
            error = permissions.forbidden(f"name a challenger on {store.uri()}")
        return f"No challenger was named: {summarize(error)}"


def _name(
    client: mlflow.MlflowClient, limits: Promotion, results: Sequence[Result], dataset: Dataset, newest: Newest
) -> str:
    name = names.experiment_name(dataset.stand_in)
    aliases = versions.aliases(client, name)
    champion = aliases.get(CHAMPION)
    theirs = champion_answers(champion, results[0].cell, dataset) if champion else None
    candidates = [
        Candidate(newest[key], result, gates.judge(result, theirs, limits))
        for result in results
        if (result.cell.model_folder / "model.keras").is_file()
        if (key := _key(ledger.identity(result.cell))) in newest and not runs.was_deleted(newest[key].run_id, client)
    ]
    candidates.sort(key=lambda candidate: (candidate.decision.passes, candidate.accuracy), reverse=True)
    rivals = [candidate for candidate in candidates if not champion or candidate.version.number != champion.number]
    if not rivals:
        return _no_challenger(client, name, aliases, "no compared model but the champion is registered")
    best = rivals[0]
    if theirs is not None:
        ahead = float(theirs.correct.mean())
        if not best.decision.passes or best.accuracy <= ahead:
            leader = max(rivals, key=attrgetter("accuracy"))
            words = f"the best other is {best.version} with {best.accuracy:.2%}"
            if leader.accuracy > ahead:
                words = f"{leader.version} with {leader.accuracy:.2%} does not pass: {leader.decision.failures}"
            return _no_challenger(client, name, aliases, f"the champion, {champion}, has {ahead:.2%}; {words}")
    others = [item for item in candidates if item is not best and item.accuracy <= best.accuracy]
    if others:  # among them those that lost by the gates, or to become champion, on the same images
        selection = select_best({item.result.name: item.result.correct for item in [best, *others]})
        if versions.selection(client, best.version) != selection.words:  # a person may have edited its description
            versions.describe_selection(client, best.version, best.result, selection.words)
    if CHALLENGER not in aliases or aliases[CHALLENGER].number != best.version.number:
        client.set_registered_model_alias(name, CHALLENGER, str(best.version.number))
    line = f"Challenger: {best.version} of {name}, {best.accuracy:.2%} accurate"
    if not best.decision.passes:
        return f"{line}, but it would not be promoted: {best.decision.failures}."
    passing = sum(candidate.decision.passes for candidate in candidates)
    rank = f"the best of {passing} that pass the gates" if passing > 1 else "the only one that passes the gates"
    return f"{line}: {rank}. `car-or-truck promote` judges it in full."


def _without_version(results: Sequence[Result], newest: Newest) -> str:
    """A sentence on the compared models that could not be chosen, because the registry does not have them."""
    trained = [result for result in results if (result.cell.model_folder / "model.keras").is_file()]
    missing = [result.name for result in trained if _key(ledger.identity(result.cell)) not in newest]
    return f" Not registered: {listed(missing)}; `car-or-truck sync` registers them." if missing else ""


def _newest(client: mlflow.MlflowClient, name: str) -> Newest:
    """The newest version of each model. By its bytes, too: a colleague's processor may give a cell others."""
    return {_key(version.tags): version for version in versions.versions(client, name)[::-1]}


def _key(tags: Mapping[str, str]) -> Key:
    return tags.get("cell"), tags.get("model.sha256")


def _no_challenger(client: mlflow.MlflowClient, name: str, aliases: dict[str, Version], reason: str) -> str:
    if CHALLENGER in aliases:
        versions.remove_challenger(client, name)
    return f"No challenger: {reason}."


def champion_answers(champion: Version, cell: Cell, dataset: Dataset, split: str = "valid") -> Evaluation:
    """The champion's predictions for the images of a split in data/prepared.

    Those of its own evaluation if it was evaluated on these images; otherwise it predicts anew, with
    the precision, threads and batches of `cell`, its challenger. Raises Failure when it cannot.
    """
    trace = provenance.read_evaluations(champion.run_id)
    if trace and split in trace[1] and trace[0].data.splits.get(split) == dataset.splits[split]:
        return trace[1][split]
    loading.start(cell.precision, cell.threads)
    remedy = "To start anew, remove its alias champion in the MLflow UI and promote a version by its number."
    try:
        classifier = loading.classifier(champion)
    except Failure as failure:
        raise Failure(f"{failure} {remedy}") from None
    if tuple(classifier.classes) != dataset.classes:
        raise Failure(
            f"The champion, {champion}, tells {' from '.join(classifier.classes)}; the images in data/prepared show "
            f"{' and '.join(dataset.classes)}. {remedy}"
        )
    images = batches.load(paths.PREPARED, split)
    try:
        probability = loading.predict_split(classifier, images, cell.batch_size)
    except Exception as error:  # it comes with code of its own, which may be older
        title, reason = split_name(split), summarize(error, 200)
        raise Failure(f"The champion, {champion}, cannot predict the {title} images: {reason}. {remedy}") from error
    return Evaluation({}, pd.DataFrame({"label": images.labels, "probability": probability}))
