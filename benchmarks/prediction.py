"""What a prediction costs: `car-or-truck predict` beside plain Keras, and the served champion's latency.

python benchmarks/prediction.py [ROUNDS [ARCHIVE]]: on the synthetic validation images, or those of the zip. The
model is `exercise` after one epoch; what it knows makes no difference to what it costs. `predict` and the plain script
are whole processes and take turns; the server is `mlflow models serve`, asked by one client at a time and by four.
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


def processes(folder: Path, pictures: list[Path], rounds: int) -> None:
    """The table of whole processes: one picture, and many."""
    print("| pictures | plain Keras | `car-or-truck predict` | relative CPU s |")
    print("|---|---|---|---|")
    for count in COUNTS:
        chosen = folder / f"pictures-{count}"
        chosen.mkdir()
        for number in range(count):  # a small set is gone through more than once
            shutil.copy(pictures[number % len(pictures)], chosen / f"{number:05}.jpeg")
        plain = [sys.executable, str(lab.ROOT / "benchmarks/plain_predict.py"), f"{CELL}/model.keras", chosen.name]
        ours = ["car-or-truck", "predict", chosen.name, "--csv", "--model", str(CELL)]
        found = [(lab.cost(plain, folder), lab.cost(ours, folder)) for _ in range(rounds)]
        theirs_clock, theirs, ours_clock, own = (
            median(run[who][kind] for run in found) for who in (0, 1) for kind in (0, 1)
        )
        print(
            f"| {count} | {theirs:.1f} CPU s, {theirs_clock:.1f} s | {own:.1f} CPU s, {ours_clock:.1f} s | "
            f"{own / theirs:.2f} |",
            flush=True,
        )


def served(folder: Path, pictures: list[Path], name: str) -> None:
    """The table of requests to the champion's server."""
    lab.cost(["car-or-truck", "promote", "1", "--force", "to be measured"], folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = psutil.Popen(
        ["mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local", "-p", str(port)],
        cwd=folder,
        env=lab.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    rows: list[dict[str, Any]] = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in pictures[:64]]

    def seconds(asked: list[dict[str, Any]]) -> float:
        since = time.monotonic()
        answer = requests.post(f"{address}/invocations", json={"dataframe_records": asked}, timeout=60)
        answer.raise_for_status()
        return time.monotonic() - since

    def used() -> float:
        times = [one.cpu_times() for one in (server, *server.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    try:
        patient = requests.Session()
        patient.mount(address, HTTPAdapter(max_retries=Retry(60, backoff_factor=0.5, backoff_max=1)))
        patient.get(f"{address}/ping").raise_for_status()
        print("| clients | pictures a request | median | 95th percentile | pictures/s | server's CPU ms a picture |")
        print("|---|---|---|---|---|---|")
        for clients, size in ((1, 1), (CLIENTS, 1), (1, 64)):
            asked = [[rows[(start + place) % len(rows)] for place in range(size)] for start in range(REQUESTS)]
            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(seconds, asked[:WARM_UP]))
                before, since = used(), time.monotonic()
                took = list(pool.map(seconds, asked))
                rate, cpu = REQUESTS * size / (time.monotonic() - since), used() - before
            print(
                f"| {clients} | {size} | {median(took) * 1000:.0f} ms | {np.quantile(took, 0.95) * 1000:.0f} ms | "
                f"{rate:.0f} | {cpu / REQUESTS / size * 1000:.1f} |"
            )
    finally:
        for one in (*server.children(recursive=True), server):
            one.terminate()
        server.wait()


def main(rounds: int = 3, archive: str = "") -> None:
    def one_epoch(tree: Any) -> None:
        tree["data"]["sources"] = ["rendered"]
        if archive:
            lab.archive(tree, archive)
        tree["train"]["variants"] = ["exercise"]
        tree["variants"]["exercise"]["epochs"] = 1

    print(f"{lab.machine()}; medians of {rounds}", end="\n\n")
    with tempfile.TemporaryDirectory() as place:
        folder = lab.clone(Path(place) / "clone", one_epoch)
        lab.cost(["dvc", "repro"], folder)
        pictures = sorted((folder / "data/raw/valid").rglob("*.jp*g"))
        processes(folder, pictures, rounds)
        print()
        served(folder, pictures, "car-or-truck" if archive else "car-or-truck-rendered")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, *sys.argv[2:])
