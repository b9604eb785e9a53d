"""Cost of a prediction: `car-or-truck predict` next to plain Keras, and the latency of the served champion.

python benchmarks/prediction.py [ROUNDS [ARCHIVE]] uses the synthetic validation images, or those of the dataset's zip.
The model is `exercise` after one epoch; its accuracy does not affect the cost. `predict` and the plain script are
measured as whole processes, in turn; `mlflow models serve` is queried by one client and by four at once.
"""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import lab
import numpy as np
import psutil
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

CELL = Path("models/exercise/31415")
COUNTS = (1, 1000)
WARM_UP, REQUESTS, CLIENTS = 20, 300, 4


def print_processes(folder: Path, pictures: list[Path], rounds: int) -> None:
    """Print the table of whole processes, for one image and for many."""
    print("| images | plain Keras | `car-or-truck predict` | relative CPU s |")
    print("|---|---|---|---|")
    for count in COUNTS:
        sample = folder / f"pictures-{count}"
        sample.mkdir()
        for number in range(count):  # a small set is repeated
            shutil.copy(pictures[number % len(pictures)], sample / f"{number:05}.jpeg")
        plain = [sys.executable, str(lab.ROOT / "benchmarks/plain_predict.py"), f"{CELL}/model.keras", sample.name]
        predict = ["car-or-truck", "predict", sample.name, "--csv", "--model", str(CELL)]
        costs = [(lab.cost(plain, folder), lab.cost(predict, folder)) for _ in range(rounds)]
        plain_wall, plain_cpu, predict_wall, predict_cpu = (
            median(cost[command][kind] for cost in costs) for command in (0, 1) for kind in (0, 1)
        )
        print(
            f"| {count} | {plain_cpu:.1f} CPU s, {plain_wall:.1f} s | {predict_cpu:.1f} CPU s, {predict_wall:.1f} s | "
            f"{predict_cpu / plain_cpu:.2f} |",
            flush=True,
        )


def print_requests(folder: Path, pictures: list[Path], name: str) -> None:
    """Print the table of requests to the champion's server."""
    lab.cost(["car-or-truck", "promote", "1", "--force", "benchmark"], folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = psutil.Popen(
        ["mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local", "-p", str(port)],
        cwd=folder,
        env=lab.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    rows: list[dict[str, Any]] = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in pictures[:64]]

    def latency(records: list[dict[str, Any]]) -> float:
        start = time.monotonic()
        response = requests.post(f"{address}/invocations", json={"dataframe_records": records}, timeout=60)
        response.raise_for_status()
        return time.monotonic() - start

    def server_cpu_seconds() -> float:
        times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
        return sum(used.user + used.system for used in times)

    try:
        session = requests.Session()
        session.mount(address, HTTPAdapter(max_retries=Retry(60, backoff_factor=0.5, backoff_max=1)))
        session.get(f"{address}/ping").raise_for_status()
        print("| clients | images per request | median | 95th percentile | images/s | server CPU ms per image |")
        print("|---|---|---|---|---|---|")
        for clients, size in ((1, 1), (CLIENTS, 1), (1, 64)):
            batches = [[rows[(first + row) % len(rows)] for row in range(size)] for first in range(REQUESTS)]
            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(latency, batches[:WARM_UP]))
                cpu, start = server_cpu_seconds(), time.monotonic()
                latencies = list(pool.map(latency, batches))
                rate, cpu = REQUESTS * size / (time.monotonic() - start), server_cpu_seconds() - cpu
            middle, high = 1000 * np.quantile(latencies, [0.5, 0.95])
            print(
                f"| {clients} | {size} | {middle:.0f} ms | {high:.0f} ms | "
                f"{rate:.0f} | {cpu / REQUESTS / size * 1000:.1f} |"
            )
    finally:
        for process in (*server.children(recursive=True), server):
            process.terminate()
        server.wait()


def main(rounds: int = 3, archive: str = "") -> None:
    def one_epoch(tree: Any) -> None:
        tree["data"]["sources"] = ["rendered"]
        if archive:
            lab.use_archive(tree, archive)
        tree["train"]["variants"] = ["exercise"]
        tree["variants"]["exercise"]["epochs"] = 1

    print(f"{lab.machine()}; medians of {rounds}", end="\n\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = lab.clone(Path(temporary) / "clone", one_epoch)
        lab.cost(["dvc", "repro"], folder)
        pictures = sorted((folder / "data/raw/valid").rglob("*.jp*g"))
        print_processes(folder, pictures, rounds)
        print()
        print_requests(folder, pictures, "car-or-truck" if archive else "car-or-truck-rendered")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, *sys.argv[2:])
