"""Where a test's images come from: the key `data` of params.yaml, archives, and a web server on this machine."""

from __future__ import annotations

import http.server
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from car_or_truck import params
from helpers.clones import ROOT

SHIPPED = params.load(ROOT / "params.yaml").data
NOTHING = ROOT / "tests/helpers/exclude.csv"  # what a person leaves out of the project's images is in no test's
SMALL = {"train": 8, "valid": 8, "seed": 1}


def data(*order: str, **settings: Any) -> params.Data:
    """The shipped `data` with other sources and settings; a mapping changes the keys that it names."""
    tree = SHIPPED.model_dump() | {"sources": order, "rendered": SMALL, "exclude": str(NOTHING)}
    for name, value in settings.items():
        tree[name] = tree[name] | value if isinstance(value, dict) else value
    return params.Data.model_validate(tree)


def nothing_was_written(raw: Path) -> bool:
    return not raw.exists() and not list(raw.parent.glob("*"))


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return path


@contextmanager
def served(
    folder: Path, status: int = 200, pause: float = 0.0, breaks: int = 0, encoding: str | None = None
) -> Iterator[str]:
    """The address of a web server for the files of `folder`.

    It answers everything with `status` unless that is 200, waits `pause` seconds before each fifth of a file, and hangs
    up after the first fifth of the first `breaks` files. It says that files are in the `encoding`.
    """
    stopped, left = threading.Event(), [None] * breaks

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if status != 200:
                self.send_error(status)
            else:
                super().do_GET()

        def end_headers(self) -> None:
            if encoding:
                self.send_header("Content-Encoding", encoding)
            super().end_headers()

        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            part = max(1, len(content) // 5)
            if left:
                left.pop()
                content = content[:part]
            for start in range(0, len(content), part):
                stopped.wait(pause)
                try:
                    outputfile.write(content[start : start + part])
                except OSError:  # the client has had enough
                    return

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds: how long shutdown waits
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()
