"""A model to predict with: a registered version with the code that it carries, or a folder that `train` wrote."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from car_or_truck import files
from car_or_truck.cells.cell import TrainedCell
from car_or_truck.errors import Failure, summarize
from car_or_truck.registry.versions import Version
from car_or_truck.tracking import relocation
from car_or_truck.train import batches, runtime
from car_or_truck.train.recipe import THRESHOLD


def start(precision: str = "float32", threads: int | None = None) -> None:
    """Start TensorFlow quietly, as `evaluate` does; if it runs with other threads already, it keeps them."""
    try:
        runtime.start(0, precision, threads)
    except RuntimeError:  # TensorFlow's, which cannot change them any more
        runtime.start(0, precision)


def served(version: Version) -> Any:
    """The version as MLflow serves it, a PyFuncModel with its own code; its requirements are not installed.

    From its folder where that is here: MLflow writes a note beside what it loads by its name. A copy from elsewhere
    is removed when Python ends, because its code may import more of itself until then.
    """
    import mlflow.pyfunc

    location = mlflow.MlflowClient().get_model_version_download_uri(version.name, str(version.number))
    folder = relocation.local_path(location)
    copy = None if folder else tempfile.mkdtemp()
    if copy:
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
    with runtime.quiet_native_logs():
        return mlflow.pyfunc.load_model(str(folder or version.uri), dst_path=copy)


def classifier(version: Version) -> Any:
    """The version's serving.Classifier, by the code of the time when it was logged."""
    try:
        return served(version).get_raw_model()
    except Exception as error:  # it comes with code of its own, which may be older
        remedy = "After a loss, `car-or-truck sync` rebuilds it; another version may load."
        raise Failure(f"{version.uri} cannot be loaded: {summarize(error)}. {remedy}") from None


def load_folder(folder: Path) -> tuple[Any, TrainedCell]:
    """The model in a folder that `train` wrote, with today's code: (classifier, cell)."""
    from car_or_truck.evaluate import inspection
    from car_or_truck.registry.serving import Classifier

    remedy = "Name a folder that `train` wrote, such as models/tutorial/31415."
    cell = files.read_model(folder / "cell.json", TrainedCell, remedy)
    net = inspection.load_net(folder / "model.keras")
    return Classifier(net, cell.data.image_size, cell.data.classes, THRESHOLD), cell


def answers(classifier: Any, pictures: NDArray[np.uint8], coverage: float | None) -> pd.DataFrame:
    """The table of `Classifier.answers`, also of a version that was logged before there was such a method."""
    if hasattr(classifier, "answers"):
        return classifier.answers(pictures, coverage)
    if coverage is not None:
        raise ValueError("coverage needs a model of a later version of this project: train it again")
    probability = classifier.probability(pictures)
    columns = {"label": classifier.labels(probability), "probability": probability}
    return pd.DataFrame({**columns, "probability_of": classifier.classes[1]})


def heat(classifier: Any, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where the model looks in pictures [n, image_size, image_size, 3]: Grad-CAM, [n, h, w] in 0..1."""
    from car_or_truck.evaluate import inspection
    from car_or_truck.train.scaling import resized

    if classifier.side != classifier.image_size:
        pictures = resized(pictures, classifier.side)
    return inspection.grad_cam(classifier.net, (pictures / 255).astype(np.float32))


def predict_split(classifier: Any, split: batches.Split, batch_size: int) -> NDArray[np.float64]:
    """P(second class) of prepared images [n], in the same batches as `evaluate`, so the same to the last bit."""
    from car_or_truck.train.scaling import resized

    images = split.images
    for side in (classifier.image_size, classifier.side):
        images = images if images.shape[1] == side else resized(images, side)
    ordered = batches.in_order(batches.Split(images, split.labels), batch_size)
    return np.asarray(classifier.net.predict(ordered, verbose=0)[:, 0], np.float64)
