"""The team's server as `make server` starts it, with a stand-in for S3, and the accounts of colleagues."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import requests

from helpers.clones import ROOT, Project
from helpers.processes import running

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
SCRIPT = ROOT / "deploy" / "server.py"
needs_postgresql = pytest.mark.skipif(
    not (shutil.which("pg_ctl") or list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))),
    reason="PostgreSQL is not installed",
)


@dataclass(frozen=True)
class Server:
    """A running server, its folder, and how one calls it."""

    address: str
    folder: Path

    def account(self, name: str) -> dict[str, str]:
        """What a colleague exports; `admin` has the password that the server made up."""
        password = (self.folder / "admin-password").read_text() if name == "admin" else f"password of {name}"
        return {
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": password,
        }

    def add(self, name: str, *may_edit: str) -> None:
        """Add an account that may write to all experiments, all registered models, or both."""
        password = self.account(name)["MLFLOW_TRACKING_PASSWORD"]
        self._post("2.0/mlflow/users/create", username=name, password=password)
        for kind in may_edit:
            rights = {"resource_type": kind, "resource_id": "*", "permission": "EDIT"}
            self._post("3.0/mlflow/users/permissions/grant", username=name, **rights)

    def _post(self, path: str, **body: str) -> None:
        admin = ("admin", self.account("admin")["MLFLOW_TRACKING_PASSWORD"])
        answer = requests.post(f"{self.address}/api/{path}", json=body, auth=admin, timeout=60)
        assert answer.ok, answer.text


@contextmanager
def folder_for_postgresql() -> Iterator[Path]:
    """An empty folder that PostgreSQL's own user can enter, unlike pytest's, when root runs the tests."""
    with TemporaryDirectory(prefix="team-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def team_server(folder: Path, **variables: str) -> Iterator[Server]:
    """The server with its data in `folder`, whatever that holds already."""
    variables = {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_WORKERS": "2", **variables}
    with running(Project(folder), sys.executable, str(SCRIPT), str(folder), ready="/health", **variables) as address:
        yield Server(address, folder)


@contextmanager
def storage(folder: Path, bucket: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """An S3 store with a bucket, in memory; yields a client of it, and what others need to find it."""
    boto3 = importlib.import_module("boto3")  # which is not there for the quick tests
    with running(Project(folder), "moto_server", ready="/moto-api/") as address:
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )
        client.create_bucket(Bucket=bucket)
        yield client, {**KEYS, "AWS_ENDPOINT_URL_S3": address, "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket}/mlflow"}
