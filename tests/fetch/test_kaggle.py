"""The source Kaggle, against a local server that answers as Kaggle does."""

from __future__ import annotations

import base64
import errno
import gc
import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from car_or_truck.errors import Failure
from car_or_truck.fetch import download
from car_or_truck.fetch.download import Unreachable, download_from_kaggle
from car_or_truck.fetch.stage import fetch
from helpers.clones import photos
from helpers.sources import data, nothing_was_written

DATASET = "ryanholbrook/car-or-truck"


class Kaggle:
    """What the server answers, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in sorted(folder.rglob("*.JPEG")):
                archive.write(path, f"car-or-truck/{path.relative_to(folder)}")
            archive.writestr("car-or-truck/notes.bin", bytes(3_000_000))  # more than kagglehub reads at a time
        self.archive = buffer.getvalue()
        self.status = 200
        self.page = b""  # answers everything, if it is set
        self.version = 3
        self.broken_off_at: list[int] = []  # how much of each next answer is sent before the line is cut
        self.silent = threading.Event()  # unset while the server does not answer
        self.silent.set()
        self.asked: list[str] = []


@contextmanager
def serving(kaggle: Kaggle) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            kaggle.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
            kaggle.silent.wait(20)
            if kaggle.status != 200:
                self.send_error(kaggle.status)
            elif kaggle.page:
                self.send(kaggle.page, "text/html")
            elif self.path.endswith("GetDataset"):
                self.send(json.dumps({"currentVersionNumber": kaggle.version}).encode(), "application/json")
            else:
                digest = base64.b64encode(hashlib.md5(kaggle.archive).digest()).decode()
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                headers = {"Accept-Ranges": "bytes", "x-goog-hash": f"md5={digest}"}
                cut = kaggle.broken_off_at.pop(0) if kaggle.broken_off_at else None
                self.send(kaggle.archive[start:], "application/zip", cut, **headers)

        def send(self, body: bytes, kind: str, cut: int | None = None, **headers: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds: how long shutdown waits
    thread.start()
    try:
        yield server.server_port
    finally:
        kaggle.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    # In this environment kagglehub prints each whole answer, and so does not stream it, as it does for users.
    monkeypatch.setattr("kagglesdk.kaggle_http_client.KaggleHttpClient._print_response", lambda *_, **__: None)
    # For the user agent it looks for Keras among the callers, which takes a second in a process with many modules.
    monkeypatch.setattr("kagglehub.clients.search_lib_in_call_stack", lambda _: None)
    server = Kaggle(photos(tmp_path / "photos"))
    with serving(server) as port:
        ask_at(port, monkeypatch)
        yield server


def ask_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its environment TEST kagglehub asks this machine at a port that another suite may have."""
    from kagglesdk import kaggle_env

    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, f"http://localhost:{port}")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw"


def test_the_version_is_recorded_and_unknown_counts_are_a_warning(
    kaggle: Kaggle, raw: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record = fetch(data("kaggle", "rendered"), raw)
    assert (record["source"], record["stand_in"], record["images"]) == ("kaggle", False, 4)
    assert record["origin"] == {"dataset": DATASET, "version": 3}
    assert sorted(path.name for path in raw.iterdir()) == ["SOURCE.json", "train", "valid"]
    console = " ".join(capfd.readouterr().err.split())
    assert "(version 3) holds {'train': {'Car': 1, 'Truck': 1}" in console
    assert "the published results are of {'train': {'Car': 2961, 'Truck': 2156}" in console


def test_a_pinned_version_is_asked_for_and_kept_offline(kaggle: Kaggle, tmp_path: Path) -> None:
    pinned = f"{DATASET}/versions/2"
    assert download_from_kaggle(pinned)[1] == 2
    assert not any(path.endswith("GetDataset") for path in kaggle.asked)
    kaggle.status = 503
    assert download_from_kaggle(pinned)[1] == 2  # from kagglehub's own cache


def test_a_download_that_breaks_off_is_resumed_where_it_stopped(kaggle: Kaggle, raw: Path) -> None:
    kaggle.broken_off_at = [len(kaggle.archive) // 2]
    assert fetch(data("kaggle"), raw)["images"] == 4
    assert any("bytes=1048576-" in path for path in kaggle.asked)


def test_a_download_that_breaks_off_again_and_again_is_out_of_reach(kaggle: Kaggle, raw: Path) -> None:
    kaggle.broken_off_at = [100] * 20
    record = fetch(data("kaggle", "rendered"), raw)
    assert record["source"] == "rendered"
    gc.collect()  # which Python 3.12 and newer turn into an error for an answer that was left open


def test_a_server_that_falls_silent_is_out_of_reach_within_the_limit(
    kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.3)
    kaggle.silent.clear()
    with pytest.raises(Unreachable, match="timed out"):
        download_from_kaggle(DATASET)


@pytest.mark.parametrize("status", [404, 403, 401])
def test_a_refusal_is_an_error(status: int, kaggle: Kaggle, raw: Path) -> None:
    kaggle.status = status
    with pytest.raises(Failure, match=rf"Kaggle refuses kaggle.com/datasets/{DATASET} \({status}\)"):
        fetch(data("kaggle", "rendered"), raw)
    assert nothing_was_written(raw)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_out_of_reach(status: int, kaggle: Kaggle, raw: Path) -> None:
    kaggle.status = status
    assert fetch(data("kaggle", "rendered"), raw)["source"] == "rendered"


def test_a_login_page_instead_of_kaggle_is_out_of_reach(kaggle: Kaggle, raw: Path) -> None:
    kaggle.page = b"<html>Welcome to our guest network"
    assert fetch(data("kaggle", "rendered"), raw)["source"] == "rendered"


def test_a_proxy_that_cannot_be_used_is_out_of_reach(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(raw.parent.parent / "cache"))
    monkeypatch.setenv("https_proxy", "socks9://127.0.0.1:1")
    assert fetch(data("kaggle", "rendered"), raw)["source"] == "rendered"


def test_a_full_disk_below_kagglehubs_cache_is_named(
    kaggle: Kaggle, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kagglehub.dataset_download", full)
    with pytest.raises(Failure, match=r"^Cannot keep .*: No space left on device \(.* KAGGLEHUB_CACHE moves it\)\.$"):
        fetch(data("kaggle", "rendered"), raw)


def test_credentials_that_cannot_be_read_are_named(kaggle: Kaggle, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("Invalid kaggle.json")

    monkeypatch.setattr("kagglehub.dataset_download", broken)
    with pytest.raises(Failure, match=r"^Cannot fetch .*: Invalid kaggle\.json\. Correct or remove your Kaggle cred"):
        fetch(data("kaggle", "rendered"), raw)


def test_an_unplugged_network_is_out_of_reach(
    closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_at(closed_port, monkeypatch)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Unreachable, match="Connection refused"):
        download_from_kaggle(DATASET)
