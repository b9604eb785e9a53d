"""Downloads, with a limit on the silence of a server: from Kaggle, and from any URL that fsspec reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from car_or_truck.errors import Failure

CONNECT_SECONDS, READ_SECONDS = 10, 30  # without an answer for so long, a server counts as out of reach
ATTEMPTS = 3  # a download that breaks off is taken up again where it stopped


class Unreachable(Exception):
    """The source cannot be reached from here and now; says why."""


def from_kaggle(dataset: str) -> tuple[Path, int | None]:
    """The folder of a data set (owner/name, or owner/name/versions/N) and its version.

    kagglehub keeps what it has downloaded in its own cache, takes up a broken download where it
    stopped, shows a progress bar, and uses the user's credentials where there are any.
    """
    import kagglehub
    import requests
    from kagglehub.exceptions import DataCorruptionError

    where = f"kaggle.com/datasets/{dataset}"
    for attempt in range(ATTEMPTS):
        try:
            with _limited_silence():
                found = Path(kagglehub.dataset_download(dataset))
            break
        except (requests.exceptions.ChunkedEncodingError, DataCorruptionError) as error:
            if attempt == ATTEMPTS - 1:
                raise Unreachable(f"its download broke off {ATTEMPTS} times: {reason(error)}") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Unreachable(reason(error)) from None
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status >= 500 or status == 429:
                raise Unreachable(f"the server answers {status}") from None
            advice = "Check data.kaggle.dataset and your Kaggle credentials."
            raise Failure(f"Kaggle refuses {where} ({status}). {advice}") from None
    version = re.search(r"versions/(\d+)", found.as_posix())
    return found, int(version.group(1)) if version else None


@contextmanager
def _limited_silence() -> Iterator[None]:
    """Give every request of `requests` a time limit: Kaggle's client sets none, and would wait for ever."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def limited(self: Any, request: Any, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or (CONNECT_SECONDS, READ_SECONDS)
        return send(self, request, **options)

    HTTPAdapter.send = limited  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]


def from_url(url: str, to: Path) -> None:
    """Download `url` (http, https, s3, gs, or what else fsspec reads) to the file `to`, with a progress bar."""
    import aiohttp
    import fsspec
    from fsspec.callbacks import TqdmCallback

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        options["client_kwargs"] = {"timeout": limits}
    try:
        system, path = fsspec.url_to_fs(url, **options)
        bar = TqdmCallback(tqdm_kwargs={"desc": f"Downloading {url}", "unit": "B", "unit_scale": True})
        system.get_file(path, str(to), callback=bar)
    except FileNotFoundError:
        raise Failure(f"There is nothing at {url} (data.archive.url).") from None
    except (ImportError, ValueError) as error:
        raise Failure(f"{url} cannot be opened: {reason(error)}") from None
    except aiohttp.ClientResponseError as error:
        if error.status >= 500 or error.status == 429:
            raise Unreachable(f"the server answers {error.status}") from None
        raise Failure(f"{url} is refused: the server answers {error.status} {error.message}.") from None
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise Unreachable(reason(error)) from None


def reason(error: BaseException) -> str:
    """The heart of an error's message, in one line: network libraries wrap it several times."""
    text = " ".join(str(error).split()) or type(error).__name__
    deepest = re.findall(r"(Failed to resolve '[^']*'|Connection refused|timed out|Network is unreachable)", text)
    return deepest[-1] if deepest else text[:300]
