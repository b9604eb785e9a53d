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


def start(seed: int, precision: str) -> str:
    """Import TensorFlow, seed everything with `seed`, make its operations deterministic.

    Returns the precision in force: `precision`, or what "auto" stands for on this machine.
    """
    if precision == "auto":
        precision = "mixed_bfloat16" if computes_in_bfloat16() else "float32"
    with native_chatter_held_back():
        import keras
        import tensorflow as tf

        tf.constant(0)  # the devices are looked for now, and reported on
    keras.utils.clear_session()  # layers are numbered from the start: a saved net's bytes hold their names
    keras.config.disable_interactive_logging()  # no progress bars: progress.py writes a line an epoch
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy(precision)
    return precision


def computes_in_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere TensorFlow imitates it, slowly."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpuinfo.read_text().split())
    except OSError:
        return False


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
