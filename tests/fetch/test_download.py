from __future__ import annotations

import errno
import gzip
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem

from car_or_truck.errors import Failure
from car_or_truck.fetch import download
from car_or_truck.fetch.download import Unreachable, download_url, mask_secrets, read_url
from helpers.sources import served

CONTENT = bytes(range(250)) * 40  # 10 kB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.jpg").write_bytes(CONTENT)
    return tmp_path / "served"


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.socket() as listening:  # accepts connections, and never answers
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "masked_url"),
    [
        ("https://example.org/a/b.zip", "https://example.org/a/b.zip"),
        ("https://user:pass@example.org:8443/a.zip", "https://***@example.org:8443/a.zip"),
        ("https://user:p@ss@example.org/a.zip", "https://***@example.org/a.zip"),
        ("https://user:p?a#ss@example.org/a.zip", "https://***@example.org/a.zip"),
        ("https://example.org/a.zip?token=SECRET", "https://example.org/a.zip?token=***"),
        (
            "https://b.s3.amazonaws.com/a.zip?X-Amz-Signature=SECRET&X-Amz-Expires=60",
            "https://b.s3.amazonaws.com/a.zip?X-Amz-Signature=***&X-Amz-Expires=***",
        ),
        ("https://example.org/a.zip?sig=SECRET==", "https://example.org/a.zip?sig=***"),
        ("https://example.org/a.zip?SECRET", "https://example.org/a.zip?***"),
        ("https://example.org/a.zip?SECRET==", "https://example.org/a.zip?***"),
        ("https://example.org/a.zip#SECRET", "https://example.org/a.zip#***"),
        ("https://example.org/a.zip?", "https://example.org/a.zip?"),
        ("zip://a::https://user:pass@example.org/a.zip?k=SECRET", "zip://a::https://***@example.org/a.zip?k=***"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, masked_url: str) -> None:
    assert mask_secrets(url) == masked_url


@pytest.mark.parametrize(
    ("message", "core"),
    [
        ("No host in https://user:pass@/a.zip?token=SECRET here", "No host in https://***@/a.zip?token=*** here"),
        ("Max retries exceeded with url: /a.zip?token=SECRET", "Max retries exceeded with url: /a.zip?token=***"),
        ("Is it\nplugged in? Perhaps", "Is it plugged in? Perhaps"),
        ("(Caused by NewConnectionError('[Errno 111] Connection refused'))", "Connection refused"),
    ],
)
def test_an_errors_core_is_one_line_without_secrets(message: str, core: str) -> None:
    assert download.reason(OSError(message)) == core


def test_a_file_is_read_from_its_address(folder: Path) -> None:
    with served(folder) as url:
        assert read_url(f"{url}/a.jpg", 10_000, 30) == CONTENT
        assert read_url(f"{url.replace('http', 'HTTP')}/a.jpg", 10_000, 30) == CONTENT


def test_a_file_larger_than_allowed_is_not_read(folder: Path) -> None:
    (folder / "large.jpg").write_bytes(bytes(2_500_001))
    with served(folder) as url, pytest.raises(ValueError, match=r"^larger than 2.5 MB$"):
        read_url(f"{url}/large.jpg", 2_500_000, 30)


def test_a_slow_file_is_given_up_in_time(folder: Path) -> None:
    started = time.monotonic()
    with served(folder, pause=20) as url, pytest.raises(ValueError, match=r"^not all there after 0.7 seconds$"):
        read_url(f"{url}/a.jpg", 10_000, 0.7)
    assert time.monotonic() - started < 20


def test_a_silent_server_is_given_up_in_time(silent_port: int) -> None:
    with pytest.raises(ValueError, match=r"^not all there after 0.3 seconds$"):
        read_url(f"http://127.0.0.1:{silent_port}/a.jpg", 10_000, 0.3)


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "403 Forbidden"), (404, "404 Not Found"), (500, "500 Internal Server Error")]
)
def test_a_refused_file_is_reported_with_the_servers_answer(status: int, reason: str, folder: Path) -> None:
    with served(folder, status) as url, pytest.raises(ValueError, match=f"^the server answers {reason}$"):
        read_url(f"{url}/a.jpg", 10_000, 30)


def test_a_dead_server_is_reported(closed_port: int) -> None:
    with pytest.raises(ValueError, match=r"^cannot be downloaded: Cannot connect to host 127.0.0.1") as caught:
        read_url(f"http://user:SECRET@127.0.0.1:{closed_port}/a.jpg?token=SECRET", 10_000, 30)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://host/a.jpg", "Protocol not known: nonsense"),
        ("http://", "not a valid URL"),
        ("http://[::1/a.jpg", "Invalid IPv6 URL"),
    ],
)
def test_an_address_that_cannot_be_opened_is_reported(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_url(url, 10_000, 30)


def test_an_archives_server_that_falls_silent_is_out_of_reach(
    silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.3)
    with pytest.raises(Unreachable, match=r"^no answer for 0.3 seconds$"):
        download_url(f"http://127.0.0.1:{silent_port}/a.zip", tmp_path / "a.zip")


def test_a_proxy_is_asked_as_by_kaggles_client(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "http:" / "images.example.org").mkdir(parents=True)  # a proxy is sent whole addresses
    (folder / "a.jpg").rename(folder / "http:" / "images.example.org" / "a.jpg")
    with served(folder) as url:
        monkeypatch.setenv("http_proxy", url)
        assert read_url("http://images.example.org/a.jpg", 10_000, 30) == CONTENT


def test_a_proxy_that_refuses_means_out_of_reach(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(folder) as url:
        monkeypatch.setenv("https_proxy", url)  # it knows no CONNECT
        with pytest.raises(Unreachable, match=r"^the proxy answers 501 Unsupported method"):
            download_url("https://images.example.org/a.zip", tmp_path / "a.zip")


class ClientError(Exception):
    """As botocore's: with the answer of the server."""

    def __init__(self, status: int) -> None:
        super().__init__("told")
        self.response = {"Error": {"Code": "Told"}, "ResponseMetadata": {"HTTPStatusCode": status}}


class NoCredentialsError(Exception):
    """What a cloud's client raises: of no base class that others know."""


class Cloud(AbstractFileSystem):  # type: ignore[misc]
    protocol = "cloud"
    error: Exception

    def get_file(self, *_: Any, **__: Any) -> None:
        raise self.error


def test_an_error_that_only_the_clouds_client_knows_means_out_of_reach(tmp_path: Path) -> None:
    fsspec.register_implementation("cloud", Cloud, clobber=True)
    Cloud.error = NoCredentialsError("Unable to locate credentials")
    with pytest.raises(Unreachable, match=r"^Unable to locate credentials$"):
        download_url("cloud://bucket/a.zip", tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"^cannot be downloaded: Unable to locate credentials$"):
        read_url("cloud://bucket/a.jpg", 10_000, 30)


def test_a_cloud_in_trouble_is_out_of_reach_and_a_full_disk_is_not(tmp_path: Path) -> None:
    fsspec.register_implementation("cloud", Cloud, clobber=True)
    Cloud.error = OSError(errno.EBUSY, "Please reduce your request rate.")
    Cloud.error.__cause__ = RuntimeError("SlowDown")  # as s3fs translates what its client raises
    with pytest.raises(Unreachable, match=r"Please reduce your request rate\.$"):
        download_url("cloud://bucket/a.zip", tmp_path / "a.zip")
    for status, expected in ((503, Unreachable), (301, Failure)):
        Cloud.error.__cause__ = ClientError(status)
        with pytest.raises(expected, match=f"the server answers {status} "):
            download_url("cloud://bucket/a.zip", tmp_path / "a.zip")
    Cloud.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left on device"):
        download_url("cloud://bucket/a.zip", tmp_path / "a.zip")


def test_a_file_comes_as_it_is_though_the_server_calls_its_gzip_an_encoding(folder: Path, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    (folder / "a.tar.gz").write_bytes(packed)
    with served(folder, encoding="gzip") as address:
        download_url(f"{address}/a.tar.gz", tmp_path / "a.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == packed


def test_a_download_that_breaks_off_is_tried_again(folder: Path, tmp_path: Path) -> None:
    with served(folder, breaks=2) as address:
        download_url(f"{address}/a.jpg", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == CONTENT
    with served(folder, breaks=3) as address, pytest.raises(Unreachable):
        download_url(f"{address}/a.jpg", tmp_path / "a.jpg")


@pytest.mark.parametrize("url", ["nonsense://host/a.zip", "https://user:SECRET@[::1/a.zip"])
def test_a_url_that_cannot_be_opened_names_its_key_and_what_is_allowed(url: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"^data.archive.url is .*, which cannot be opened: .* Allowed: a path, or a URL"):
        download_url(url, tmp_path / "a.zip")
