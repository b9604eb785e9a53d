"""Stage `evaluate`: a trained model scored on the validation set and its slices, and inspected.

Every score describes the saved weights, except those of the history: `loss` and `binary_accuracy`, which Keras averaged
during the epoch that was kept, and all whose names start with `final_`, `best_`, `overfit_` or `training_`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import Progress

from car_or_truck import files, paths
from car_or_truck.evaluate import calibration, corruptions, novelty, slices
from car_or_truck.evaluate.reliability import Reliability, add_feature_output
from car_or_truck.evaluate.scores import accuracy, all_scores, has_collapsed, log_loss, smoothed_onset
from car_or_truck.train import batches
from car_or_truck.train.history import derive
from car_or_truck.train.scaling import resized

if TYPE_CHECKING:
    from car_or_truck.cells.cell import TrainedCell
    from car_or_truck.params import Evaluate

# The few scores of metrics.json; evaluation.json has all of them.
METRICS = (
    "val_binary_accuracy",
    "val_loss",
    "generalization_gap",
    "training_gap",
    "overfit_epoch",
    "overfit_rise",
    "binary_accuracy",
    "loss",
    "best_epoch",
    "best_val_binary_accuracy",
    "final_val_binary_accuracy",
    "parameters",
    "collapsed",
    "test_binary_accuracy",
    "largest_slice_drop",
)


def evaluate(cell: TrainedCell, history: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """Write all that describes a cell into its folder in reports/cells; returns its scores.

    TensorFlow must have been started, with the cell's precision and threads.
    """
    from car_or_truck.evaluate import figures, inspection, inspection_figures

    net = inspection.load_net(cell.model_folder / "model.keras")
    splits = {name: batches.load(paths.PREPARED, name, cell.side) for name in cell.data.counts}
    probe = add_feature_output(net)
    conditions = corruptions.conditions(settings.corruptions) if settings.slices else {}
    share = settings.corrupted_share if settings.slices else 0
    about = corruptions.sample(pd.read_csv(paths.PREPARED / "valid" / "index.csv"), share)
    with _progress(cell, [*map(len, splits.values()), *(len(about) for _ in conditions)]) as advance:
        predicted = {name: predict(probe, name, split, cell.batch_size, advance) for name, split in splits.items()}
        corrupted = predict_corrupted(net, cell, about, conditions, advance)
    predictions = {name: table for name, (table, _) in predicted.items()}
    sizes = {"parameters": cell.parameters, "multiply_adds": inspection.multiply_adds(net)}
    scores = score(history, cell.kept_epoch, predictions) | sizes
    described = describe(cell)
    tables = {
        "predictions": predictions["valid"],
        "test_predictions": predictions.get("test", predictions["valid"][:0]),
        "corrupted": corrupted,
        "slices": pd.DataFrame(columns=["slice"]),
    }
    if settings.slices:
        tables["slices"] = slices.model_slices(predictions["valid"], corrupted, cell.data.classes)
        scores |= slices.slice_scores(tables["slices"])
        described.append(slices.ABOUT)

    folder = cell.report_folder
    for name, table in tables.items():
        files.write_csv(folder / f"{name}.csv", table)
    valid = figures.Predictions(cell.name, cell.data.classes, splits["valid"].images, predictions["valid"])
    with files.whole_folder(folder / "figures") as part:
        figures.draw(valid, history, scores, figures.only_in_training(cell.recipe), part)
        scores |= inspection_figures.draw(net, valid, part)._asdict()
    reliability = Reliability(
        temperature=scores["temperature"],
        nonconformity=calibration.nonconformity(valid.labels, valid.probability),
        **novelty.fit(predicted["train"][1], predicted["valid"][1]),
    )
    with files.whole_file(folder / "reliability.npz") as file:
        reliability.save(file)
    files.write_json(folder / "evaluation.json", {"cell": cell.fingerprint, **scores, "describes": described})
    metrics = {name: scores[name] for name in METRICS if name in scores}
    files.write_json(folder / "metrics.json", {**metrics, "describes": described})
    return scores


@contextmanager
def _progress(cell: TrainedCell, counts: Sequence[int]) -> Iterator[Any]:
    """Yield a callback for Keras's predict: passes over so many images advance a bar."""
    import keras

    with Progress() as bar:
        task = bar.add_task(f"Evaluating {cell.name}", total=sum(-(-count // cell.batch_size) for count in counts))
        yield keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: bar.advance(task))


def predict(
    probe: Any, name: str, split: batches.Split, batch_size: int, advance: Any
) -> tuple[pd.DataFrame, NDArray[np.floating[Any]]]:
    """A split's predictions (name, label, probability of the second class), and its features [images, d]."""
    features, probability = _answers(probe, split, batch_size, advance)
    names = pd.read_csv(paths.PREPARED / name / "index.csv")["name"]
    columns = {"name": names, "label": split.labels, "probability": probability[:, 0].astype(np.float64)}
    return pd.DataFrame(columns), features


def _answers(net: Any, split: batches.Split, batch_size: int, advance: Any) -> Any:
    return net.predict(batches.in_order(split, batch_size), verbose=0, callbacks=[advance])


def predict_corrupted(
    net: Any, cell: TrainedCell, about: pd.DataFrame, conditions: Mapping[str, tuple[str, float]], advance: Any
) -> pd.DataFrame:
    """The model's predictions for corrupted validation images: name, label, and a column a condition.

    `about` has the rows of index.csv that are corrupted. Images are corrupted as they were prepared, and then scaled to
    the model's input.
    """
    valid = batches.load(paths.PREPARED, "valid")
    about = about.join(slices.read_measures(about["name"]), on="name")
    images, table = valid.images[about.index.to_numpy()], about[["name", "label"]].reset_index(drop=True)
    for condition, (name, strength) in conditions.items():
        changed = corruptions.corrupt(images, about, name, strength)
        if cell.side != changed.shape[1]:
            changed = resized(changed, cell.side)
        split = batches.Split(changed, table["label"].to_numpy(np.uint8))
        table[condition] = _answers(net, split, cell.batch_size, advance)[:, 0].astype(np.float64)
    return table


def score(history: pd.DataFrame, kept_epoch: int, predictions: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """All scores: of the predictions for each split, and of the history. `describe` says which is which."""
    kept_row = history.loc[history["epoch"] == kept_epoch].iloc[0]
    answers = {
        split: (table["label"].to_numpy(np.uint8), table["probability"].to_numpy())
        for split, table in predictions.items()
    }
    scores: dict[str, Any] = {
        "loss": float(kept_row["loss"]),
        "binary_accuracy": float(kept_row["binary_accuracy"]),
        "kept_epoch": kept_epoch,
        **derive(history),
        "overfit_onset": smoothed_onset(history["val_loss"]),
        "collapsed": has_collapsed(answers["valid"][1]),
    }
    for split, prefix in (("valid", "val"), ("test", "test")):
        if split in answers:
            scores |= {f"{prefix}_{name}": value for name, value in all_scores(*answers[split]).items()}
    scores |= calibration.calibration_scores(*answers["valid"])
    scores["train_loss"] = log_loss(*answers["train"])
    scores["train_binary_accuracy"] = accuracy(*answers["train"])
    scores["generalization_gap"] = scores["train_binary_accuracy"] - scores["val_binary_accuracy"]
    return scores


def describe(cell: TrainedCell) -> list[str]:
    """Which split and which weights each score describes."""
    lines = [
        f"val_*: the saved weights (epoch {cell.kept_epoch}) on validation; positive class: {cell.data.classes[1]}",
        "train_*: the saved weights on train, without dropout or augmentation",
        "generalization_gap: train_binary_accuracy - val_binary_accuracy",
        "temperature: what the log-odds are divided by for the lowest log loss on validation",
        "calibrated_*: on validation, with a temperature that was fitted to its other half",
        "heat_on_bars: share of the Grad-CAM on the letterbox bars of a sample of validation; bars: of the area",
        f"loss, binary_accuracy: on train, as Keras averaged them during epoch {cell.kept_epoch}",
        "best_*: the epoch with the highest val_binary_accuracy in the history, which may not be the saved one",
        "final_*: the last epoch of the history; training_gap: final binary_accuracy - final val_binary_accuracy",
        "overfit_*: val_loss in the history: its lowest epoch, its rise to the end, its smoothed lowest epoch",
    ]
    if cell.recipe.keep == "best":
        lines.append("keep: best selected the weights on validation, so val_* are optimistically biased")
    if "test" in cell.data.counts:
        lines.append("test_*: the saved weights on test, on which the gates judge")
    return lines
