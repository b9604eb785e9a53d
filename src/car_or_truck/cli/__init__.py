"""The command `car-or-truck`. Each verb imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from car_or_truck.cli import look, registry, search, stages, team  # noqa: F401 (they add their verbs to the app)
from car_or_truck.cli.app import app
from car_or_truck.errors import Failure, Stopped, mask_passwords

__all__ = ["app", "main"]

NO_ACCESS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS)  # a person's disk or rights, no fault of the code


def main() -> None:
    """Run the command. Exits 0 on success, 1 on a failure explained on stderr, 2 on wrong usage."""
    gc.set_threshold(50_000)  # objects, not 700: imports make many, and no garbage
    atexit.register(gc.freeze)  # at its end Python would look through all objects for garbage, for seconds
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot show stops nothing
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else it is `nohup`, for which a closed terminal is nothing
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    bin_folder = str(Path(sys.executable).parent)  # `dvc` of this environment, which may not be activated
    os.environ["PATH"] = os.pathsep.join([bin_folder, os.environ.get("PATH", os.defpath)])
    try:
        app()
    except Exception as error:
        if "CAR_OR_TRUCK_DEBUG" in os.environ:
            traceback.print_exc()
        elif isinstance(error, Failure):
            print(error, file=sys.stderr)
        elif store_trouble := _store_failure(error):
            print(store_trouble, file=sys.stderr)
        elif isinstance(error, OSError) and error.errno in NO_ACCESS and error.filename:
            print(f"Cannot use {error.filename}: {error.strerror}.", file=sys.stderr)
        else:
            print(
                f"Unexpected {type(error).__name__}: {mask_passwords(str(error))} "
                "(`car-or-truck --debug ...` shows the traceback.)",
                file=sys.stderr,
            )
        sys.exit(1)


def _stop(*_: Any) -> None:
    """A kill ends the command as Ctrl-C does."""
    raise Stopped


def _store_failure(error: Exception) -> Failure | None:
    """What an error of MLflow's means if the project's own store is locked, full or not writable."""
    if type(error).__name__ != "MlflowException":  # to import MLflow takes seconds
        return None
    from car_or_truck.tracking import faults, store

    return faults.unusable(error, store.own()) if any(sign in str(error) for sign in faults.HEALTHY) else None
