from __future__ import annotations

from pathlib import Path

import mlflow
import tensorflow as tf

from car_or_truck.registry import loading
from car_or_truck.train import runtime
from helpers.registered import version


def test_where_tensorflow_runs_with_other_threads_already_it_keeps_them() -> None:
    loading.start()
    before = tf.config.threading.get_intra_op_parallelism_threads()
    loading.start("float32", runtime.available_threads() + 1)
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


def test_a_version_is_loaded_without_a_trace_so_that_a_folder_may_be_read_only(
    client: mlflow.MlflowClient,
) -> None:
    before = set(Path("mlruns").rglob("*"))
    assert loading.classifier(version(client, "tutorial")).labels([0.9]) == ["Truck"]
    after = {path for path in Path("mlruns").rglob("*") if "__pycache__" not in path.parts}
    assert after <= before
