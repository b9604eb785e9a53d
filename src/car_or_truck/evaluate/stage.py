"""Stage `evaluate`: a trained cell's model, judged on valid.

Every figure describes the kept weights unless its name begins with `final_` or `best_`, which the
history gives. The cell's MLflow run gets them too, and its model becomes a registered version.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from car_or_truck import files, paths
from car_or_truck.cells import cell as cells
from car_or_truck.compare import statistics
from car_or_truck.evaluate import figures as cell_figures
from car_or_truck.evaluate import scores
from car_or_truck.params import Params
from car_or_truck.train import batches, runtime
from car_or_truck.train.history import derive

GAP = "kept_generalization_gap is train_binary_accuracy - val_binary_accuracy"
# What `dvc metrics show` and `dvc exp show` have columns for.
SHOWN = (
    "val_binary_accuracy",
    "val_loss",
    "generalization_gap",
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
)


def evaluate(params: Params, variant: str, seed: int) -> Path:
    """Write metrics.json, evaluation.json, predictions.csv and figures/ of one cell; returns their folder.

    metrics.json holds the few numbers to look at, as DVC's metrics; evaluation.json holds all.
    """
    cell, history = cells.read(variant, seed)
    runtime.start(seed, cell["precision"], cell["threads"])
    splits = [split for split in ("train", "valid", "test") if split in cell["data"]["counts"]]
    data = {split: batches.load(paths.PREPARED, split, cell["recipe"].get("image_size")) for split in splits}
    import keras

    from car_or_truck.evaluate.inspection import multiply_adds
    from car_or_truck.registry import versions as registry
    from car_or_truck.tracking import delivery, runs
    from car_or_truck.tracking import provenance as trace
    from car_or_truck.tracking import training as tracking

    net = keras.saving.load_model(paths.model_folder(variant, seed) / "model.keras", compile=False)
    net.compile(loss="binary_crossentropy", metrics=["binary_accuracy"])
    answers = {split: answer(net, data[split], params.train.batch_size) for split in splits}
    valid, probability = data["valid"], answers["valid"]
    sizes = {"parameters": int(cell["parameters"]), "multiply_adds": multiply_adds(net)}
    full = judge(cell, history, {split: data[split].labels for split in splits}, answers) | sizes
    for split, prefix in (("valid", "val"), ("test", "test")):
        if split in data:  # by the very operations that wrote the history: bfloat16 rounds otherwise in `predict`
            ordered = batches.in_order(data[split], params.train.batch_size)
            full[f"{prefix}_loss"], full[f"{prefix}_binary_accuracy"] = map(float, net.evaluate(ordered, verbose=0))
    metrics = {name: full[name] for name in SHOWN if name in full} | {"describes": describes(cell, splits)}

    folder = paths.report_folder(variant, seed)
    files.write_text(folder / "predictions.csv", predictions("valid", valid, probability))
    held_out = predictions("test", data["test"], answers["test"]) if "test" in data else "name,label,probability\n"
    files.write_text(folder / "test_predictions.csv", held_out)
    with files.whole_folder(folder / "figures") as part:
        look_inside(f"{variant}-{seed}", net, valid, cell["data"]["classes"], probability, part)
        draw(f"{variant}-{seed}", history, full, valid, cell["data"]["classes"], probability, part)
    files.write_json(folder / "evaluation.json", {"cell": cell["cell"], **full, "describes": metrics["describes"]})
    files.write_json(folder / "metrics.json", metrics)

    run_id = runs.find_run(cell) or tracking.rebuild(cell, history, net, valid.images[:1])
    runs.log_evaluation(run_id, full, folder / "figures")
    trace.log_results(run_id, cell)
    registry.register(run_id, cell, full)
    delivery.hand_over(run_id)
    return folder


def answer(net: Any, split: batches.Split, batch_size: int) -> NDArray[np.float32]:
    """The net's probability of the second class for each image of a split."""
    probability: NDArray[np.float32] = net.predict(batches.in_order(split, batch_size), verbose=0)[:, 0]
    return probability


def judge(
    cell: dict[str, Any],
    history: pd.DataFrame,
    labels: dict[str, NDArray[np.uint8]],
    answers: dict[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """Every figure of a cell: from its answers to each split, and from its history. `describes` says which is which."""
    kept = history.loc[history["epoch"] == cell["kept_epoch"]].iloc[0]
    found: dict[str, Any] = {
        "loss": float(kept["loss"]),
        "binary_accuracy": float(kept["binary_accuracy"]),
        "kept_epoch": int(cell["kept_epoch"]),
        **derive(history),
        "overfit_onset": statistics.smoothed_onset(history["val_loss"]),
        "threshold": statistics.best_threshold(labels["train"], answers["train"]),
        "collapsed": collapsed(answers["valid"]),
    }
    for split, prefix in (("valid", "val"), ("test", "test")):
        if split not in answers:
            continue
        truth, probability = labels[split], answers[split]
        of_split = {
            "loss": scores.log_loss(truth, probability),
            **scores.at_threshold(truth, probability),
            **scores.of_probabilities(truth, probability),
        }
        right = round(of_split["binary_accuracy"] * len(truth))
        of_split["accuracy_low"], of_split["accuracy_high"] = statistics.wilson(right, len(truth))
        tuned = scores.at_threshold(truth, probability, found["threshold"])
        of_split |= {f"{name}_at_threshold": value for name, value in tuned.items()}
        found |= {f"{prefix}_{name}": value for name, value in of_split.items()}
    found["train_loss"] = scores.log_loss(labels["train"], answers["train"])
    found["train_binary_accuracy"] = scores.accuracy(labels["train"], answers["train"])
    found["kept_generalization_gap"] = found["train_binary_accuracy"] - found["val_binary_accuracy"]
    return found


def describes(cell: dict[str, Any], splits: Sequence[str]) -> list[str]:
    """Which split and which weights each figure describes."""
    kept, positive = cell["kept_epoch"], cell["data"]["classes"][1]
    lines = [
        f"val_*: the kept weights (of epoch {kept}) on valid, at the threshold 0.5; positive is {positive}",
        "*_at_threshold: the same at `threshold`, which has the highest accuracy on train",
        f"train_*: the kept weights on train, without dropout or augmentation; {GAP}",
        f"loss, binary_accuracy: on train, as Keras averaged them over epoch {kept} while it was trained",
        "best_*: the epoch with the highest val_binary_accuracy in the history; its weights may not be the kept ones",
        "final_*, generalization_gap: the last epoch of the history, final binary_accuracy - final val_binary_accuracy",
        "overfit_*: val_loss in the history: its lowest epoch, its rise until the last, its smoothed lowest epoch",
    ]
    if cell["recipe"].get("keep") == "best":
        lines.append("keep: best chose the weights by val_binary_accuracy, so that val_* flatter")
    return [*lines, "test_*: the kept weights on test, which nothing else reads"] if "test" in splits else lines


def predictions(name: str, split: batches.Split, probability: NDArray[np.float32]) -> str:
    """A split's answers as CSV: name, label, probability (of the second class)."""
    names = pd.read_csv(paths.PREPARED / name / "index.csv")["name"]
    table = pd.DataFrame({"name": names, "label": split.labels, "probability": probability.astype(np.float64)})
    return str(table.to_csv(index=False, lineterminator="\n"))


def collapsed(probability: NDArray[np.floating[Any]]) -> bool:
    """Whether the net gives the same answer to every picture."""
    return len(np.unique(probability > 0.5)) == 1


def look_inside(
    title: str,
    net: Any,
    valid: batches.Split,
    classes: Sequence[str],
    probability: NDArray[np.float32],
    folder: Path,
) -> None:
    """The net's summary, architecture, first kernels, feature maps and Grad-CAM, into `folder`."""
    from car_or_truck.evaluate import inspection, inspection_figures

    lines: list[str] = []
    net.summary(print_fn=lambda line, **_: lines.append(line))
    files.write_text(folder / "summary.txt", "\n".join(lines) + "\n")
    cost = inspection.multiply_adds(net)
    inspection_figures.architecture(inspection.steps(net), cost, title, folder / "architecture.png")
    kernels = inspection.first_kernels(net)
    if kernels is not None:
        inspection_figures.kernels(kernels, title, folder / "kernels.png")

    sure = np.where(valid.labels == 1, probability, 1 - probability)  # of the true class
    order = np.argsort(sure, kind="stable")
    image = valid.images[order[-1]].astype(np.float32) / 255
    blocks = inspection.feature_maps(net, image)
    if blocks:
        inspection_figures.feature_maps(image, blocks, title, folder / "feature_maps.png")

    rows = {}
    for caption, ranked in (("right", order[::-1]), ("wrong", order)):
        fitting = ranked[(sure[ranked] > 0.5) == (caption == "right")]
        chosen = np.concatenate([fitting[valid.labels[fitting] == label][:4] for label in (0, 1)])
        if len(chosen):
            images = valid.images[chosen].astype(np.float32) / 255
            said = [f"{classes[valid.labels[place]]}: P({classes[1]}) {probability[place]:.2f}" for place in chosen]
            rows[f"{caption}:"] = (images, inspection.grad_cam(net, images), said)
    inspection_figures.grad_cam(rows, title, folder / "grad_cam.png")


def draw(
    title: str,
    history: pd.DataFrame,
    metrics: dict[str, Any],
    valid: batches.Split,
    classes: Sequence[str],
    probability: NDArray[np.float32],
    folder: Path,
) -> None:
    """The cell's figures, into `folder`."""
    labels = valid.labels
    cell_figures.learning_curves(history, title, folder / "learning_curves.png")
    cell_figures.confusion(labels, probability, classes, title, folder / "confusion.png")
    if "val_roc_auc" in metrics:  # valid holds both classes
        cell_figures.roc(labels, probability, metrics["val_roc_auc"], classes, title, folder / "roc.png")
        cell_figures.precision_recall(
            labels, probability, metrics["val_average_precision"], classes, title, folder / "precision_recall.png"
        )
    error = metrics["val_expected_calibration_error"]
    cell_figures.calibration(labels, probability, error, classes, title, folder / "calibration.png")
    wrongness = np.abs(labels - probability)
    worst = np.argsort(-wrongness, kind="stable")[:24]
    worst = worst[wrongness[worst] > 0.5]
    names = pd.read_csv(paths.PREPARED / "valid" / "index.csv")["name"].to_numpy()[worst]
    cell_figures.mistakes(
        valid.images[worst], labels[worst], probability[worst], names, classes, title, folder / "mistakes.png"
    )
