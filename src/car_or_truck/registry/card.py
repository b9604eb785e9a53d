"""A registered version's description: what the model is, and is not, for someone who finds it in the registry."""

from __future__ import annotations

from typing import Any

from car_or_truck.cells import names as labels
from car_or_truck.compare import statistics


def card(cell: dict[str, Any], metrics: dict[str, Any], uri: str) -> str:
    """The model card, in Markdown."""
    data, classes = cell["data"], cell["data"]["classes"]
    counts = {split: sum(of.values()) for split, of in data["counts"].items()}
    gap = 100 * metrics["generalization_gap"]
    accuracy, valid = metrics["val_binary_accuracy"], counts["valid"]
    low, high = statistics.wilson(round(accuracy * valid), valid)
    constant = max(data["counts"]["valid"].values()) / valid
    limits = [
        f"It knows two answers, {classes[0]} and {classes[1]}, and gives one of them to any picture.",
        _kept(cell),
        "The interval knows of the number of images, not of a seed's luck.",
    ]
    if data["stand_in"]:
        limits.insert(0, "**Trained on drawings that stand in for photographs: of no use on photographs.**")
    if metrics["collapsed"]:
        limits.insert(0, "**It has collapsed: it gives the same answer to every picture.**")
    parts = {
        "": f"{labels.run_name(cell)}: a convnet that tells {classes[0]} from {classes[1]}, with "
        f"{metrics['parameters']:,} parameters.",
        "Trained on": f"{counts['train']:,} images of the source `{data['source']}` (digest "
        f"`{data['digest'][:12]}`), letterboxed to {data['image_size']} pixels, for {metrics['epochs']} epochs with "
        f"seed {cell['seed']}, in {cell['precision']}.",
        "How good": f"Accuracy {accuracy:.4f} on {valid:,} valid images, 95 % interval {low:.3f} to {high:.3f}; "
        f"the best constant answer has {constant:.4f}. Area under the ROC {metrics['val_roc_auc']:.4f}, loss "
        f"{metrics['val_loss']:.4f} nats.",
        "Overfitting": f"Accuracy on train ended {abs(gap):.1f} points {'above' if gap >= 0 else 'below'} that on "
        f"valid; val_loss was lowest in epoch {metrics['overfit_epoch']}, and ended {metrics['overfit_rise']:.3f} "
        "higher.",
        "Limits": " ".join(limits),
        "Use": f"`car-or-truck predict photo.jpg --model {uri}`, `mlflow models serve -m {uri} --env-manager local`, "
        f'or `mlflow.tensorflow.load_model("{uri}")` for the Keras model. `car-or-truck reproduce {uri}` traces it.',
    }
    return "\n\n".join(f"**{title}.** {text}" if title else text for title, text in parts.items())


def _kept(cell: dict[str, Any]) -> str:
    if cell["recipe"]["keep"] == "best":
        return "Its weights are of the epoch that was best on those very images, so its accuracy flatters."
    return "Its weights are the last epoch's."
