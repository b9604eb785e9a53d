"""A net as an MLflow model that carries all it needs: weights, the code that answers for it, classes, requirements.

One MLmodel has two flavours: `tensorflow` gives the Keras model, `python_function` what serving.py makes of it.
"""

from __future__ import annotations

import base64
import shutil
import sys
import warnings
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import mlflow.tensorflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from numpy.typing import NDArray
from PIL import Image

from car_or_truck import files
from car_or_truck.train import runtime

PACKAGE = Path(__file__).parents[1]
SHIPPED = ("prepare/images.py", "registry/serving.py", "train/scaling.py")  # the code that answers, as it lies here
REQUIREMENTS = ("mlflow", "tensorflow", "keras", "numpy", "pandas", "pillow")
# A row holds one of the two. `pixels` is of any type, because MLflow would check nested numbers one by one, in seconds.
SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "image", required=False), ColSpec(AnyType(), "pixels", required=False)]),
    Schema([ColSpec("string", "label"), ColSpec("double", "probability"), ColSpec("string", "probability_of")]),
)


def log(net: Any, saved: Path, image: NDArray[np.uint8], cell: dict[str, Any]) -> None:
    """Log `net`, whose bytes are in the file `saved`, to the active run; `image` [h, w, 3] is its input example."""
    with runtime.native_chatter_held_back(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The structure of `inputs`")
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType")  # MLflow's own, on import
        Model.log(None, sys.modules[__name__], name="model", net=net, saved=saved, image=image, cell=cell)


def save_model(
    path: str, mlflow_model: Model, net: Any, saved: Path, image: NDArray[np.uint8], cell: dict[str, Any]
) -> None:
    """Write the model into the folder `path`: what MLflow asks of a flavour, and calls."""
    folder, data = Path(path), cell["data"]
    tensors = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), [-1, *net.input_shape[1:]])]),
        Schema([TensorSpec(np.dtype(np.float32), [-1, 1])]),
    )
    mlflow.tensorflow.save_model(
        net,
        path,
        mlflow_model=mlflow_model,
        signature=tensors,  # of the Keras model: this flavour insists on one
        input_example=pd.DataFrame({"image": [_png(image)]}),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
    )
    shutil.copyfile(saved, folder / "data" / "model.keras")  # MLflow's own copy has the time in it
    about = {"image_size": data["image_size"], "classes": data["classes"], "cell": cell["cell"]}
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
    """Copy the code that answers into `folder`; returns its package's name.

    The name tells one code from another, so that two models can be loaded beside each other, and beside the project.
    """
    digest = files.content_digest((name, files.sha256(PACKAGE / name)) for name in SHIPPED)
    package = folder / f"car_or_truck_model_{digest[:8]}"
    for name in SHIPPED:
        (package / name).parent.mkdir(parents=True)
        shutil.copyfile(PACKAGE / name, package / name)
    return package.name


def _png(image: NDArray[np.uint8]) -> str:
    file = BytesIO()
    Image.fromarray(image).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
