"""TensorFlow, started quietly and deterministically: seeds, precision, threads, devices."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

X86 = platform.machine() in ("x86_64", "AMD64")

# TensorFlow reads these when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if X86:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # by itself only with AVX512_VNNI or newer; AVX2 gains too


def start(seed: int, precision: str, threads: int | None = None) -> str:
    """Import TensorFlow, seed it with `seed`, and make its operations deterministic.

    `threads`: in each of TensorFlow's two pools; None: as many as the processor has. Returns the
    precision in force: `precision`, or what "auto" stands for on this machine. Raises RuntimeError when
    TensorFlow runs already with another number of threads.
    """
    with quiet_native_logs():
        with hide_packages("matplotlib", "sklearn"):
            import keras
            import tensorflow as tf

        if threads not in (None, available_threads(), tf.config.threading.get_intra_op_parallelism_threads()):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # leaves the rest of the card to others
        tf.constant(0)  # finds the devices, and logs them, now
    if precision == "auto":
        precision, _ = automatic_precision()
    keras.utils.clear_session()  # number layers from the start: a saved model's bytes hold their names
    keras.config.disable_interactive_logging()  # tracking/progress.py reports instead
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy(precision)
    return precision


def available_threads() -> int:
    """The number of processor threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def automatic_precision() -> tuple[str, str]:
    """The precision that suits this machine, and why; decided by its features, never by a timing."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        name, (major, minor) = details.get("device_name", "GPU"), details.get("compute_capability", (0, 0))
        if major >= 8:
            return "mixed_bfloat16", f"the {name} supports it (compute capability {major}.{minor})"
        return "float32", f"the {name} does not support bfloat16 (compute capability {major}.{minor}, not 8.0)"
    feature = bfloat16_feature()
    if feature:
        return "mixed_bfloat16", f"the processor has {feature}"
    return "float32", "the processor has neither avx512_bf16 nor amx_bf16"


def strategy(kind: str = "GPU") -> Any:
    """The distribution strategy: all devices of this `kind` where there are several, else the default."""
    import tensorflow as tf

    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def bfloat16_feature(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's feature for bfloat16 arithmetic; None without one, where TensorFlow emulates it slowly."""
    if not X86:
        return None
    try:
        flags = cpuinfo.read_text().split()
    except OSError:
        return None
    return next((feature for feature in ("amx_bf16", "avx512_bf16") if feature in flags), None)


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Hold back what native code prints to stderr; show it only if the block fails."""
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


@contextmanager
def hide_packages(*packages: str) -> Iterator[None]:
    """Let imports of these fail in the block: Keras offers to work with them, which takes a third of its start."""
    absent = dict.fromkeys(name for name in packages if name not in sys.modules)
    sys.modules.update(absent)  # type: ignore[arg-type]  # None there is Python's way to say so
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
