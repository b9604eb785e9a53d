from __future__ import annotations

import tensorflow as tf

from car_or_truck.registry import loading
from car_or_truck.train import runtime


def test_where_tensorflow_runs_with_other_threads_already_it_keeps_them() -> None:
    loading.start()
    before = tf.config.threading.get_intra_op_parallelism_threads()
    loading.start("float32", runtime.available_threads() + 1)
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
