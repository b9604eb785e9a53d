"""A model as MLflow logs it, with all that it needs: weights, the code that serves it, classes, requirements.

One MLmodel has two flavours: `tensorflow` gives the Keras model, `python_function` the Classifier of
registry/serving.py.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import mlflow.tensorflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array
from numpy.typing import NDArray

from car_or_truck import files
from car_or_truck.cells.cell import TrainedCell
from car_or_truck.prepare.images import png_base64
from car_or_truck.train import runtime
from car_or_truck.train.recipe import THRESHOLD

PACKAGE = Path(__file__).parents[1]
# The code that serves, as it lies here.
SHIPPED = ("evaluate/reliability.py", "prepare/images.py", "registry/serving.py", "train/scaling.py")
REQUIREMENTS = ("mlflow", "tensorflow", "keras", "numpy", "pandas", "pillow")
SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "image")]),
    Schema(
        [
            ColSpec("string", "label"),
            ColSpec("double", "probability"),
            ColSpec("string", "probability_of"),
            # From here on for a model that was evaluated,
            ColSpec("double", "confidence", required=False),
            ColSpec("boolean", "unlike", required=False),
            ColSpec("string", "note", required=False),
            # and this if the params ask for a coverage.
            ColSpec(Array("string"), "prediction_set", required=False),
        ]
    ),
    ParamSchema([ParamSpec("coverage", "double", default=None)]),
)


def log(net: Any, image: NDArray[np.uint8], cell: TrainedCell) -> None:
    """Log `net`, which `train` saved as the cell's model.keras, to the active run; `image` [h, w, 3] is its example."""
    with runtime.quiet_native_logs(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The structure of `inputs`")
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType")  # MLflow's own, on import
        Model.log(None, sys.modules[__name__], name=cell.name, net=net, image=image, cell=cell)


def save_model(path: str, mlflow_model: Model, net: Any, image: NDArray[np.uint8], cell: TrainedCell) -> None:
    """Write the model into the folder `path`; MLflow calls this function of every flavour."""
    folder = Path(path)
    tensors = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), [-1, *net.input_shape[1:]])]),
        Schema([TensorSpec(np.dtype(np.float32), [-1, 1])]),
    )
    mlflow.tensorflow.save_model(
        net,
        path,
        mlflow_model=mlflow_model,
        signature=tensors,  # of the Keras model: this flavour insists on one
        input_example=pd.DataFrame({"image": [png_base64(image)]}),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )
    shutil.copyfile(cell.model_folder / "model.keras", folder / "data" / "model.keras")  # MLflow's copy holds the time
    about = {
        "image_size": cell.data.image_size,
        "classes": list(cell.data.classes),
        "threshold": THRESHOLD,
        "cell": cell.fingerprint,
    }
    files.write_json(folder / "data" / "serving.json", about)
    package = _ship_code(folder / "code")
    mlflow_model.signature = SIGNATURE
    mlflow_model.metadata = about
    mlflow.pyfunc.add_to_model(
        mlflow_model,
        loader_module=f"{package}.registry.serving",
        data="data",
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    mlflow_model.save(str(folder / "MLmodel"))


def _ship_code(folder: Path) -> str:
    """Copy the code that serves into `folder`; returns its package's name.

    The name depends on the code, so that models of different versions can be loaded into one process.
    """
    digest = files.content_digest((name, files.sha256(PACKAGE / name)) for name in SHIPPED)
    package = folder / f"car_or_truck_model_{digest[:8]}"
    for name in SHIPPED:
        (package / name).parent.mkdir(parents=True)
        shutil.copyfile(PACKAGE / name, package / name)
    return package.name
