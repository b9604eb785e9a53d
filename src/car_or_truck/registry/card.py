"""A registered version's description: what the model is, and is not, for someone who comes across it."""

from __future__ import annotations

from typing import Any

from car_or_truck.cells.cell import TrainedCell
from car_or_truck.compare.overfitting import rise_sentence
from car_or_truck.evaluate.reliability import FEWEST

KEPT = {
    "best": "Its weights are those of the epoch with the best validation accuracy, which is therefore optimistically "
    "biased.",
    "last": "Its weights are those of the last epoch.",
}


def card(cell: TrainedCell, scores: dict[str, Any], uri: str, selection: str = "") -> str:
    """The model card, in Markdown; `selection`: how far being the best of several flatters it."""
    data, (negative, positive) = cell.data, cell.data.classes
    constant, share = data.majority
    gap = 100 * scores["generalization_gap"]
    size = f"{data.image_size} pixels" + f", then scaled to {cell.side}" * (cell.side != data.image_size)
    marks = "; it marks many of these, but not all, as unlike the training images" * (data.count("valid") >= FEWEST)
    limits = [
        f"It always answers {negative} or {positive}, even for pictures that show neither{marks}.",
        KEPT[cell.recipe.keep],
        "The interval reflects the number of images, not seed variance.",
        *([selection] if selection else []),
    ]
    if cell.stand_in:
        limits.insert(0, "**Trained on synthetic images: do not trust it on photographs.**")
    if scores["collapsed"]:
        limits.insert(0, "**Collapsed: it gives the same answer to every picture.**")
    parts = {
        "": f"{cell.name}: a convnet that tells {negative} from {positive}, with {cell.parameters:,} parameters.",
        "Training": f"{data.count('train'):,} images of the source `{data.source}` (digest `{data.digest[:12]}`), "
        f"letterboxed to {size}; {scores['epochs']} epochs, seed {cell.seed}, {cell.precision}.",
        "Accuracy": f"{100 * scores['val_binary_accuracy']:.1f}% of {data.count('valid'):,} validation images "
        f"(95% CI {100 * scores['val_accuracy_low']:.1f}-{100 * scores['val_accuracy_high']:.1f}%); always answering "
        f"{constant} scores {100 * share:.1f}%. ROC AUC {scores['val_roc_auc']:.4f}, loss {scores['val_loss']:.4f}.",
        "Overfitting": f"Accuracy on train is {abs(gap):.1f} points {'above' if gap >= 0 else 'below'} validation. "
        f"The {rise_sentence(scores['overfit_epoch'], scores['overfit_rise'])}.",
        "Limits": " ".join(limits),
        "Use": f"`car-or-truck predict photo.jpg --model {uri}`, `mlflow models serve -m {uri} --env-manager local`, "
        f'or `mlflow.tensorflow.load_model("{uri}")` for the Keras model. `car-or-truck reproduce {uri}` traces it.',
    }
    return "\n\n".join(f"**{title}.** {text}" if title else text for title, text in parts.items())
