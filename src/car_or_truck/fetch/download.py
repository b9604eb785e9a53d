"""Downloads that give up on a silent server: from Kaggle, and from any URL that fsspec reads."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from car_or_truck.errors import NETWORK, Failure, mask_passwords

CONNECT_SECONDS, READ_SECONDS = 10, 30  # a server that is silent for so long counts as unreachable
ATTEMPTS = 3  # of a download that breaks off; Kaggle's is resumed where it stopped


class Unreachable(Exception):
    """The source cannot be reached from here and now; says why."""


class _BrokenOff(Unreachable):
    """The server hung up before the end."""


class _Refusal(Exception):
    """The server answers, but not with the file."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the server answers {status} {message}".rstrip())
        self.status = status


def download_from_kaggle(dataset: str) -> tuple[Path, int | None]:
    """The folder of a data set (owner/name, or owner/name/versions/N), and its version.

    kagglehub downloads into its own cache, resumes a broken download, shows a progress bar, and uses
    the user's credentials if there are any. Raises Unreachable, or Failure when Kaggle refuses.
    """
    import kagglehub
    import requests
    from kagglehub.exceptions import DataCorruptionError

    where = f"kaggle.com/datasets/{dataset}"
    for attempt in range(ATTEMPTS):
        try:
            with _limited_silence():
                folder = Path(kagglehub.dataset_download(dataset))
            break
        except (requests.exceptions.ChunkedEncodingError, DataCorruptionError) as error:
            if attempt == ATTEMPTS - 1:
                raise Unreachable(f"the download broke off {ATTEMPTS} times: {reason(error)}") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Unreachable(reason(error)) from None
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if _is_temporary(status):
                raise Unreachable(f"the server answers {status}") from None
            advice = "Check data.kaggle.dataset and your Kaggle credentials."
            raise Failure(f"Kaggle refuses {where} ({status}). {advice}") from None
        except (requests.RequestException, json.JSONDecodeError) as error:  # a proxy's or a login page's
            raise Unreachable(reason(error)) from None
        except ValueError as error:  # of kagglehub itself
            advice = "Correct or remove your Kaggle credentials, or the damaged download in kagglehub's cache."
            raise Failure(f"Cannot fetch {where}: {reason(error)}. {advice}") from None
        except OSError as error:
            place = error.filename or "kagglehub's cache; the variable KAGGLEHUB_CACHE moves it"
            raise Failure(f"Cannot keep {where}: {error.strerror or error} ({place}).") from None
    version = re.search(r"versions/(\d+)$", folder.as_posix())
    return folder, int(version.group(1)) if version else None


@contextmanager
def _limited_silence() -> Iterator[None]:
    """Give every request of `requests` a timeout, and close its answer at the end.

    Kaggle's client sets no timeout, and would wait for ever; when it resumes a download, it leaves an answer open.
    """
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send
    with ExitStack() as answers:

        def limited(self: Any, request: Any, **options: Any) -> Any:
            options["timeout"] = options.get("timeout") or (CONNECT_SECONDS, READ_SECONDS)
            return answers.enter_context(send(self, request, **options))

        HTTPAdapter.send = limited  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            HTTPAdapter.send = send  # type: ignore[method-assign]


def download_url(url: str, to: Path) -> None:
    """Download `url` (data.archive.url: http, https, s3, gs, ...) to the file `to`, with a progress bar.

    Raises Unreachable when the server is silent or in trouble, or a cloud's client lacks credentials; Failure when it
    refuses.
    """
    from fsspec.callbacks import TqdmCallback

    masked_url = mask_secrets(url)
    bar = TqdmCallback(tqdm_kwargs={"desc": f"Downloading {masked_url}", "unit": "B", "unit_scale": True})
    try:
        for attempt in range(ATTEMPTS):
            try:
                _copy(url, to, bar)
                break
            except _BrokenOff:
                if attempt == ATTEMPTS - 1:
                    raise
    except _Refusal as refusal:
        if _is_temporary(refusal.status):
            raise Unreachable(str(refusal)) from None
        if refusal.status == 404:
            raise Failure(f"There is nothing at {masked_url} (data.archive.url).") from None
        raise Failure(f"{masked_url} (data.archive.url) is refused: {refusal}.") from None
    except ValueError as error:
        raise Failure(
            f"data.archive.url is {masked_url}, which cannot be opened: {error}. "
            "Allowed: a path, or a URL (http, https, s3, gs, or another protocol of fsspec)."
        ) from None


def read_url(url: str, most_bytes: int, most_seconds: float) -> bytes:
    """The content of the file at `url` (http, https, s3, gs, or what else fsspec reads).

    Raises ValueError with the reason, in one line: refused, larger than `most_bytes`, not complete
    after `most_seconds`, unreachable, or an unknown protocol.
    """
    from fsspec.callbacks import Callback

    deadline = time.monotonic() + most_seconds

    class Limits(Callback):  # type: ignore[misc]
        def call(self, *_: Any, **__: Any) -> None:
            if max(self.size or 0, self.value) > most_bytes:
                raise ValueError(f"larger than {most_bytes / 1e6:g} MB")
            if time.monotonic() > deadline:
                raise ValueError(f"not all there after {most_seconds:g} seconds")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        try:
            _copy(url, path, Limits(), most_seconds)
            return path.read_bytes()
        except _Refusal as refusal:
            raise ValueError(str(refusal)) from None
        except (Unreachable, OSError) as error:
            raise ValueError(f"cannot be downloaded: {reason(error)}") from None


def _copy(url: str, to: Path, callback: Any, most_seconds: float | None = None) -> None:
    """Copy what is at `url` to the file `to`, and tell fsspec's `callback` of each part.

    Raises _Refusal, Unreachable, or ValueError with the reason; ValueErrors of the callback pass.
    """
    import aiohttp
    import fsspec

    scheme, separator, rest = url.partition("://")
    limits = aiohttp.ClientTimeout(total=most_seconds, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    client: dict[str, Any] = {"timeout": limits, "trust_env": True}  # http_proxy and such
    # The file as it is: a server may call a .tar.gz a tar in gzip's encoding, which would be undone.
    client |= {"auto_decompress": False, "headers": {"Accept-Encoding": "identity"}}
    options = {"client_kwargs": client} if scheme.lower() in ("http", "https") else {}
    try:
        system, path = fsspec.url_to_fs(f"{scheme.lower()}{separator}{rest}", **options)
        system.get_file(path, str(to), callback=callback)
    except FileNotFoundError:
        raise _Refusal(404, "Not Found") from None
    except PermissionError:  # how s3fs and gcsfs report a refusal
        raise _Refusal(403, "Forbidden") from None
    except aiohttp.ClientHttpProxyError as error:
        raise Unreachable(f"the proxy answers {error.status} {error.message}") from None
    except aiohttp.ClientResponseError as error:
        raise _Refusal(error.status, error.message) from None
    except aiohttp.InvalidURL:
        raise ValueError("not a valid URL") from None
    except (ImportError, ValueError) as error:
        raise ValueError(reason(error)) from None
    except TimeoutError as error:
        cause = error.__cause__  # fsspec hides which of the limits it was
        if isinstance(cause, aiohttp.ConnectionTimeoutError):
            raise Unreachable(f"no connection within {CONNECT_SECONDS} seconds") from None
        if most_seconds is None or isinstance(cause, aiohttp.SocketTimeoutError):
            raise Unreachable(f"no answer for {READ_SECONDS} seconds") from None
        raise ValueError(f"not all there after {most_seconds:g} seconds") from None
    except aiohttp.ClientPayloadError as error:
        raise _BrokenOff(reason(error)) from None
    except (aiohttp.ClientError, ConnectionError, socket.gaierror) as error:
        raise Unreachable(reason(error)) from None
    except OSError as error:
        if error.__cause__ is None:  # the disk's
            raise
        answer = getattr(error.__cause__, "response", None)  # s3fs's translation of what its client says of an answer
        if answer:
            raise _Refusal(answer["ResponseMetadata"]["HTTPStatusCode"], reason(error)) from None
        raise Unreachable(reason(error)) from None
    except Exception as error:
        if type(error).__module__ == "builtins":  # such as a TypeError for an address that lacks a part
            raise ValueError(reason(error)) from None
        raise Unreachable(reason(error)) from None  # a cloud's client's own: no endpoint, no credentials


def _is_temporary(status: int) -> bool:
    return status >= 500 or status == 429


def mask_secrets(url: str) -> str:
    """The URL without its secrets: user, password, and the values of its query and fragment become ***."""
    address, mark, query = re.split(r"([?#]|$)", mask_passwords(url), maxsplit=1)
    return address + mark + re.sub(r"(^|[&;#])([^=&;#]*=(?=[^=&;#]))?[^&;#]+", r"\1\2***", query)


def reason(error: BaseException) -> str:
    """The core of an error's message, in one line: network libraries wrap it several times, and quote the URL."""
    text = " ".join(str(error).replace(" ssl:default", "").split()) or type(error).__name__
    core = NETWORK.findall(text)
    return core[-1] if core else re.sub(r"\S*(://|\?\S)\S*", lambda match: mask_secrets(match[0]), text)[:300]
