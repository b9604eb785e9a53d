"""Several devices at once: two logical ones on this processor, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
    history, kept = fit(net, setup(chosen), Data(train, valid), saved)
used = convnet.inference_copy(net)
answers = used.predict(batches.in_order(valid, 8), verbose=0)[:, 0]
print(history.to_json(double_precision=15, orient="records"))
print(answers.tolist())
"""


@pytest.mark.slow
def test_two_devices_share_each_batch_and_learn_what_one_learns(tmp_path: Path) -> None:
    told = []
    for place, devices in enumerate(("1", "2", "2")):
        path = tmp_path / f"{min(place, 1)}.npz"  # the third takes up the second's finished training
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1]), devices, str(path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        history, answers = (json.loads(line) for line in done.stdout.splitlines()[-2:])
        told.append(([[row["loss"], row["val_loss"], row["val_binary_accuracy"]] for row in history], answers))
    np.testing.assert_allclose(told[1][0], told[0][0], rtol=1e-3)  # they add up in another order
    np.testing.assert_allclose(told[1][1], told[0][1], rtol=1e-3)
    assert told[2] == told[1]
