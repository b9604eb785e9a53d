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
from sklearn.metrics import roc_auc_score

from car_or_truck import batches, cells, engine, figures, files, layout
from car_or_truck.history import derive
from car_or_truck.params import Params


def evaluate(params: Params, variant: str, seed: int) -> Path:
    """Write metrics.json, predictions.csv and figures/ of one cell; returns their folder."""
    cell, history = cells.read(variant, seed)
    engine.start(seed, cell["precision"], cell["threads"])
    side = cell["recipe"].get("image_size")
    valid = batches.load(layout.PREPARED, "valid", side)
    import keras

    from car_or_truck import delivery, runs, tracking
    from car_or_truck.inside import multiply_adds

    net = keras.saving.load_model(layout.model_folder(variant, seed) / "model.keras")
    net.compile(loss="binary_crossentropy", metrics=["binary_accuracy"])
    val_loss, val_binary_accuracy, probability = judge(net, valid, params.train.batch_size)
    kept = history.loc[history["epoch"] == cell["kept_epoch"]].iloc[0]
    metrics = {
        "loss": float(kept["loss"]),
        "binary_accuracy": float(kept["binary_accuracy"]),
        "val_loss": val_loss,
        "val_binary_accuracy": val_binary_accuracy,
        "val_roc_auc": float(roc_auc_score(valid.labels, probability)),
        "kept_epoch": int(cell["kept_epoch"]),
        **derive(history),
        "parameters": int(cell["parameters"]),
        "multiply_adds": multiply_adds(net),
        "collapsed": collapsed(probability),
    }
    held_out = "name,label,probability\n"
    if "test" in cell["data"]["counts"]:
        test = batches.load(layout.PREPARED, "test", side)
        metrics["test_loss"], metrics["test_binary_accuracy"], answers = judge(net, test, params.train.batch_size)
        held_out = predictions("test", test, answers)

    folder = layout.report_folder(variant, seed)
    files.write_text(folder / "predictions.csv", predictions("valid", valid, probability))
    files.write_text(folder / "test_predictions.csv", held_out)
    with files.whole_folder(folder / "figures") as part:
        look_inside(f"{variant}-{seed}", net, valid, cell["data"]["classes"], probability, part)
        draw(f"{variant}-{seed}", history, metrics, valid, cell["data"]["classes"], probability, part)
    files.write_json(folder / "metrics.json", metrics)

    run_id = runs.find_run(cell) or tracking.rebuild(cell, history, net, valid.images[:1])
    runs.log_evaluation(run_id, metrics, folder / "figures")
    tracking.register(run_id, cell, metrics)
    delivery.hand_over(run_id)
    return folder


def judge(net: Any, split: batches.Split, batch_size: int) -> tuple[float, float, NDArray[np.float32]]:
    """The net's loss and accuracy on a split, and its probability for each image."""
    ordered = batches.in_order(split, batch_size)
    loss, accuracy = net.evaluate(ordered, verbose=0)
    return float(loss), float(accuracy), net.predict(ordered, verbose=0)[:, 0]


def predictions(name: str, split: batches.Split, probability: NDArray[np.float32]) -> str:
    """A split's answers as CSV: name, label, probability (of the second class)."""
    names = pd.read_csv(layout.PREPARED / name / "index.csv")["name"]
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
    from car_or_truck import inside, inside_figures

    lines: list[str] = []
    net.summary(print_fn=lambda line, **_: lines.append(line))
    files.write_text(folder / "summary.txt", "\n".join(lines) + "\n")
    cost = inside.multiply_adds(net)
    inside_figures.architecture(inside.steps(net), cost, title, folder / "architecture.png")
    kernels = inside.first_kernels(net)
    if kernels is not None:
        inside_figures.kernels(kernels, title, folder / "kernels.png")

    sure = np.where(valid.labels == 1, probability, 1 - probability)  # of the true class
    order = np.argsort(sure, kind="stable")
    image = valid.images[order[-1]].astype(np.float32) / 255
    blocks = inside.feature_maps(net, image)
    if blocks:
        inside_figures.feature_maps(image, blocks, title, folder / "feature_maps.png")

    rows = {}
    for caption, ranked in (("right", order[::-1]), ("wrong", order)):
        fitting = ranked[(sure[ranked] > 0.5) == (caption == "right")]
        chosen = np.concatenate([fitting[valid.labels[fitting] == label][:4] for label in (0, 1)])
        if len(chosen):
            images = valid.images[chosen].astype(np.float32) / 255
            said = [f"{classes[valid.labels[place]]}: P({classes[1]}) {probability[place]:.2f}" for place in chosen]
            rows[f"{caption}:"] = (images, inside.grad_cam(net, images), said)
    inside_figures.grad_cam(rows, title, folder / "grad_cam.png")


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
    figures.learning_curves(history, title, folder / "learning_curves.png")
    figures.confusion(valid.labels, probability, classes, title, folder / "confusion.png")
    figures.roc(valid.labels, probability, metrics["val_roc_auc"], classes, title, folder / "roc.png")
    figures.calibration(valid.labels, probability, classes, title, folder / "calibration.png")
    wrongness = np.abs(valid.labels - probability)
    worst = np.argsort(-wrongness, kind="stable")[:24]
    worst = worst[wrongness[worst] > 0.5]
    figures.mistakes(
        valid.images[worst], valid.labels[worst], probability[worst], classes, title, folder / "mistakes.png"
    )
