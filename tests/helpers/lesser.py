"""A tracking server that knows, or permits, less than others: MLflow's own, which refuses some requests."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from mlflow.server import app, handlers
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking
from werkzeug.serving import make_server

LOGGED_MODELS = "mlflow/(logged-models|runs/outputs)"
REGISTRY = "mlflow/(registered-models|model-versions)"


class Lesser:
    """The server's address, what it answers to which requests, and those that it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, int] = {}  # HTTP statuses by patterns of "METHOD path"
        self.requests: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.requests.append(request)
        for pattern, status in self.answers.items():
            if re.search(pattern, request):
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start(f"{status} {HTTPStatus(status).phrase}", [("Content-Type", "text/html")])
                return [b"" if status == 404 else b"<!doctype html>\n<title>Permission denied</title>"]
        return app(environ, start)  # type: ignore[no-any-return]

    @property
    def changes(self) -> list[str]:
        """The requests that change something, but for searches."""
        return [
            request for request in self.requests if not request.startswith("GET") and not request.endswith("search")
        ]


@contextmanager
def lesser_server(folder: Path, empty_database: Path) -> Iterator[Lesser]:
    """Serve at a free port, from an empty store in `folder`, within this process.

    It looks models up where MLflow's current store is: `mlflow.set_tracking_uri` must name the server while it works.
    """
    folder.mkdir()
    database = f"sqlite:///{shutil.copyfile(empty_database, folder / 'server.db')}"
    lesser = Lesser()
    server = make_server("127.0.0.1", 0, lesser, threaded=True)
    lesser.url = f"http://127.0.0.1:{server.port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
        patch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, str(folder / "artifacts"))
        patch.setattr(handlers, "_tracking_store", Tracking(database, "mlflow-artifacts:/"))
        patch.setattr(handlers, "_model_registry_store", Registry(database))
        patch.setattr(handlers, "_artifact_repo", None)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds: how long shutdown waits
        thread.start()
        try:
            yield lesser
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
