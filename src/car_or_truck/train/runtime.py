"""TensorFlow, started quietly and set up exactly: seeds, determinism, precision.

What is here decides a model's numbers, so `train` depends on it.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def start(seed: int, precision: str, threads: int | None = None) -> str:
    """Import TensorFlow, seed everything with `seed`, make its operations deterministic.

    `threads`: of the processor, for each of TensorFlow's two pools; None: as many as it has. Returns
    the precision in force: `precision`, or what "auto" stands for on this machine.
    """
    with native_chatter_held_back():
        import keras
        import tensorflow as tf

        if threads not in (None, available_threads(), tf.config.threading.get_intra_op_parallelism_threads()):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # so that others can use the card too
        tf.constant(0)  # the devices are looked for now, and reported on
    if precision == "auto":
        precision, _ = automatic_precision()
    keras.utils.clear_session()  # layers are numbered from the start: a saved net's bytes hold their names
    keras.config.disable_interactive_logging()  # no progress bars: progress.py says how far it is
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy(precision)
    return precision


def available_threads() -> int:
    """How many of the processor's threads this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def automatic_precision() -> tuple[str, str]:
    """The precision that suits what this machine has, and why; by what it can do, not by a timing."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        name, (major, minor) = details.get("device_name", "GPU"), details.get("compute_capability", (0, 0))
        if major >= 8:
            return "mixed_bfloat16", f"the {name} computes in it (compute capability {major}.{minor})"
        return "float32", f"the {name} does not compute in bfloat16 (compute capability {major}.{minor}, not 8.0)"
    feature = bfloat16_feature()
    if feature:
        return "mixed_bfloat16", f"the processor has {feature}"
    return "float32", "the processor has neither avx512_bf16 nor amx_bf16"


def strategy(kind: str = "GPU") -> Any:
    """How a training uses the devices of this `kind`: all of them, where there are several."""
    import tensorflow as tf

    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def bfloat16_feature(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """By what the processor multiplies bfloat16 itself; None where TensorFlow would imitate it, slowly."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        flags = cpuinfo.read_text().split()
    except OSError:
        return None
    return next((feature for feature in ("amx_bf16", "avx512_bf16") if feature in flags), None)


@contextmanager
def native_chatter_held_back() -> Iterator[None]:
    """Hold back what TensorFlow's native code prints to stderr; shown only if the block fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
