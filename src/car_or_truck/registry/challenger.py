"""Which cell of the last comparison stands for promotion: the best by the gates' own rule."""

from __future__ import annotations

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from car_or_truck import files, paths
from car_or_truck.cells import cell as cells
from car_or_truck.cells import names as labels
from car_or_truck.errors import Failure
from car_or_truck.params import Params
from car_or_truck.registry import gates
from car_or_truck.registry import versions as registry
from car_or_truck.registry.versions import CHALLENGER, CHAMPION, Version
from car_or_truck.tracking import provenance as trace
from car_or_truck.tracking import store


def name_challenger(params: Params) -> str:
    """Give the alias challenger to the best cell of params.yaml; returns a line that says which, and why.

    The best passes every gate that numbers decide, and of those it is the most accurate. Where that is the champion
    itself there is no challenger. Without a store that answers, nothing changes, and the line says so.
    """
    try:
        return _name(store.open_store(), params)
    except (Failure, MlflowException, OSError) as error:
        return f"No challenger is named: {' '.join(str(error).split())}"


def _name(client: mlflow.MlflowClient, params: Params) -> str:
    dataset = files.read_json(paths.PREPARED / "dataset.json", "Run `dvc repro prepare`.")
    name = labels.experiment_name({"data": dataset})
    given = registry.aliases(client, name)
    champion = given.get(CHAMPION)
    theirs, truth = None, None
    ranked: list[tuple[bool, float, Version, tuple[gates.Gate, ...]]] = []
    known = trace.evaluated(champion.run_id) if champion else None
    if known and known[0]["data"]["arrays"] == dataset["arrays"]:
        theirs = gates.Answers(known[2]["probability"].to_numpy(), known[1]["generalization_gap"])
    for variant, seed in params.cells:
        cell, _ = cells.read(variant, seed)
        found = registry.of_cell(client, name, cell["cell"])
        if not found:
            continue
        folder = paths.report_folder(variant, seed)
        predictions = pd.read_csv(folder / "predictions.csv")
        gap = files.read_json(folder / "metrics.json", f"Run `dvc repro evaluate@{variant}-{seed}`.")
        answers = gates.Answers(predictions["probability"].to_numpy(), gap["generalization_gap"])
        truth = predictions["label"].to_numpy()
        verdict = gates.judge(truth, answers, theirs, params.promotion)
        accuracy = gates.accuracy(truth, answers.probability)
        ranked.append((gates.all_hold(verdict), accuracy, found[0], verdict))
    ranked.sort(key=lambda entry: entry[:2], reverse=True)
    challengers = [entry for entry in ranked if not champion or entry[2].number != champion.number]
    if not challengers:
        return _none(client, name, given, "no cell of params.yaml is registered but the champion")
    passes, accuracy, best, verdict = challengers[0]
    if champion and theirs is not None and truth is not None:
        ahead = gates.accuracy(truth, theirs.probability)
        if not passes or accuracy <= ahead:
            why = f"the champion, {champion}, has {ahead:.4f}; next is {best} with {accuracy:.4f}"
            return _none(client, name, given, why if passes else f"{why}: {gates.failures(verdict)}")
    if CHALLENGER not in given or given[CHALLENGER].number != best.number:
        client.set_registered_model_alias(name, CHALLENGER, str(best.number))
    line = f"Challenger: {best} of {name}, with {accuracy:.4f} the most accurate"
    if not passes:
        return f"{line}, though it would not be promoted: {gates.failures(verdict)}."
    passing = sum(entry[0] for entry in ranked)
    which = f"of {passing} cells that pass the gates" if passing > 1 else "and the only cell that passes the gates"
    return f"{line} {which}. `car-or-truck promote` judges it in full."


def _none(client: mlflow.MlflowClient, name: str, given: dict[str, Version], why: str) -> str:
    if CHALLENGER in given:
        client.delete_registered_model_alias(name, CHALLENGER)
    return f"No challenger: {why}."
