"""A model to ask: a registered version, with the code that it carries, or a folder that `train` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.registry.versions import Version
from car_or_truck.train import runtime


def start(precision: str = "float32", threads: int | None = None) -> None:
    """Start TensorFlow quietly, as `evaluate` does."""
    runtime.start(0, precision, threads)


def served(version: Version) -> Any:
    """The version as MLflow serves it: a PyFuncModel. It brings its own code, requirements are not installed."""
    import mlflow.pyfunc

    with runtime.native_chatter_held_back():
        return mlflow.pyfunc.load_model(version.uri)


def classifier(version: Version) -> Any:
    """What answers for the version: serving.Classifier, as it was when the version was made."""
    try:
        return served(version).get_raw_model()
    except (NotImplementedError, OSError, mlflow.MlflowException) as error:
        raise Failure(f"{version.uri} cannot be loaded: {' '.join(str(error).split())[:300]}") from None


def from_folder(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The net in a folder that `train` wrote, with the code of today; returns (classifier, cell)."""
    import keras

    from car_or_truck.registry.serving import Classifier

    cell = files.read_json(folder / "cell.json", "Name a folder that `train` wrote, such as models/tutorial/31415.")
    try:
        net = keras.saving.load_model(folder / "model.keras", compile=False)
    except (OSError, ValueError) as error:
        raise Failure(f"{folder / 'model.keras'} cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return Classifier(net, cell["data"]["image_size"], cell["data"]["classes"]), cell
