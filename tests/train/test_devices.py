"""What TensorFlow computes with, in processes of their own: oneDNN, and two logical devices on this processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from car_or_truck.train import runtime

OFF = {"TF_ENABLE_ONEDNN_OPTS": "0"}
ONEDNN = """
import os
from car_or_truck.train import runtime
print(os.environ["TF_ENABLE_ONEDNN_OPTS"])
"""
STARTED = """
runtime.start(1, "float32")
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
sys.path.insert(0, sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[2]))
from helpers.nets import recipe, setup, split
from car_or_truck.train import batches, convnet, runtime
from car_or_truck.train.checkpoint import Checkpoint
from car_or_truck.train.fit import Data, fit
runtime.start(1, "float32")
strategy = runtime.strategy("CPU")
assert strategy.num_replicas_in_sync == int(sys.argv[2])
chosen = recipe(epochs=3, optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.9})
train, valid = split(24, 32), split(10, 32, "valid")
with strategy.scope():
    net = convnet.build(chosen, 32)
    saved = Checkpoint(Path(sys.argv[3]))
    saved.read()
    history, kept_epoch = fit(net, setup(chosen), Data(train, valid), saved)
inference_net = convnet.inference_copy(net)
answers = inference_net.predict(batches.in_order(valid, 8), verbose=0)[:, 0]
print(history.to_json(double_precision=15, orient="records"))
print(answers.tolist())
"""


@pytest.mark.skipif(not runtime.X86, reason="oneDNN is for x86")
@pytest.mark.parametrize(
    ("chosen", "script", "expected"),
    [
        ({}, ONEDNN, "1"),
        (OFF, ONEDNN, "0"),
        pytest.param({}, ONEDNN + STARTED, "1\nTrue", marks=pytest.mark.slow),
    ],
)
def test_onednn_computes_on_any_x86_processor_unless_a_person_says_otherwise(
    chosen: dict[str, str], script: str, expected: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in OFF} | chosen
    process = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert process.stdout.strip() == expected, process.stderr


@pytest.mark.slow
def test_two_devices_share_each_batch_and_learn_what_one_learns(tmp_path: Path) -> None:
    results = []
    for place, devices in enumerate(("1", "2", "2")):
        path = tmp_path / f"{min(place, 1)}.npz"  # the third takes up the second's finished training
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1]), devices, str(path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
        history, answers = (json.loads(line) for line in process.stdout.splitlines()[-2:])
        results.append(([[row["loss"], row["val_loss"], row["val_binary_accuracy"]] for row in history], answers))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-3)  # they add up in another order
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-3)
    assert results[2] == results[1]
