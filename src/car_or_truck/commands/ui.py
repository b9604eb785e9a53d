"""`ui`: MLflow's own UI, with the addresses of the pages that answer the project's questions."""

from __future__ import annotations

import os
import socket
import sys

from car_or_truck import paths
from car_or_truck.errors import Failure, mask_passwords
from car_or_truck.tracking import store, views


def ui(port: int) -> None:
    """Print where the answers are, and become `mlflow ui` at 127.0.0.1; a tracking server has a UI already."""
    root = mask_passwords(store.server() or f"http://127.0.0.1:{port}")
    addresses = "\n".join(views.addresses(store.open_store(), root) or [root])
    if store.server():
        print(addresses)
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise Failure(f"Port {port} is taken. Choose another: `car-or-truck ui --port {port + 1}`.")
    print(addresses)
    print("Starting MLflow, which takes some seconds. Ctrl-C stops it.", flush=True)
    os.chdir(paths.root())
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # seven processes, for language models
    where = ["--backend-store-uri", store.own(), "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *where])
