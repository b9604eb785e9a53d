"""deploy/: what compose.yaml describes, and `make server`, which starts the same on this machine's PostgreSQL."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from dotenv import dotenv_values
from ruamel.yaml import YAML

from helpers.clones import ROOT
from helpers.servers import SCRIPT, folder_for_postgresql, needs_postgresql, team_server

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_compose_names_only_services_volumes_and_files_that_there_are() -> None:
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == (
                "service_healthy" if "healthcheck" in SERVICES[needed] else "service_completed_successfully"
            )
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]
    assert {key for key in SERVICES if "restart" in SERVICES[key]} == {
        key for key in SERVICES if "healthcheck" in SERVICES[key]
    }


def test_every_variable_of_compose_is_in_the_example_and_every_password_must_be_chosen() -> None:
    text, example = (DEPLOY / "compose.yaml").read_text(), dotenv_values(DEPLOY / ".env.example")
    used = re.findall(r"\$\{(\w+)(:\?)?", text)
    assert {name for name, _ in used} == set(example)
    secret = {name for name in example if re.search("PASSWORD|KEY", name)}
    assert {name for name, required in used if required} == secret
    assert not any(example[name] for name in secret)
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            assert "${" in value or not re.search("PASSWORD|SECRET|ACCESS_KEY", key), (name, key)
    secrets = ["deploy/.env", "server/admin-password"]
    ignored = subprocess.run(["git", "check-ignore", *secrets], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.split() == secrets


def test_compose_runs_fixed_versions_those_of_the_lock_where_it_has_them() -> None:
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements-extras.lock").read_text(), re.MULTILINE))
    built = SERVICES["mlflow"]["build"]["dockerfile_inline"]
    assert f"FROM ghcr.io/mlflow/mlflow:v{lock['mlflow']}\n" in built
    installed = dict(re.findall(r"([a-z0-9-]+)(?:\[auth\])?==([\d.]+)", built))
    assert installed == {name: lock[name] for name in ("mlflow", "psycopg2-binary", "boto3")}
    for service in SERVICES.values():
        assert re.fullmatch(r"[a-z/-]+:\d[\d.]+", service["image"])


def test_both_use_one_database_for_the_accounts_too_and_options_that_mlflow_has() -> None:
    accounts = configparser.ConfigParser()
    accounts.read(DEPLOY / "basic_auth.ini")
    assert accounts["mlflow"]["database_uri"] in SERVICES["mlflow"]["command"]
    assert "admin_password" not in accounts["mlflow"]  # from the environment
    path = importlib.metadata.distribution("mlflow").locate_file("mlflow/server/auth/basic_auth.ini")
    for key in accounts["mlflow"]:  # MLflow passes over what it does not know
        assert re.search(rf"^(# )?{key} =", Path(str(path)).read_text(), re.MULTILINE), key


def make_server(folder: Path, **variables: str) -> str:
    """What it says when it cannot start."""
    process = subprocess.run(
        [sys.executable, SCRIPT, folder], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert process.returncode == 1
    assert process.stdout == ""
    return process.stderr


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        output = make_server(tmp_path / "server", MLFLOW_HOST="127.0.0.1", MLFLOW_PORT=port)
    assert output == (
        f"MLflow cannot listen on 127.0.0.1:{port}: [Errno 98] Address already in use. "
        "Choose a free port: make server MLFLOW_PORT=5050\n"
    )


def test_a_port_or_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    assert make_server(tmp_path / "server", MLFLOW_PORT="70000").startswith("MLflow cannot listen on 0.0.0.0:70000: ")
    for folder in (tmp_path / ("deep/" * 20), tmp_path / "$HOME"):
        assert "Choose another folder: python deploy/server.py FOLDER" in make_server(folder, MLFLOW_PORT="0")
        assert not folder.exists()


def test_without_postgresql_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = SCRIPT.read_text().replace("/usr/lib/postgresql", str(tmp_path))  # where Debian keeps it
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "server.py").write_text(script)
    (tmp_path / "deploy" / "compose.yaml").write_bytes((DEPLOY / "compose.yaml").read_bytes())
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT", tmp_path / "deploy" / "server.py")
    output = make_server(tmp_path / "server", PATH="/nowhere", MLFLOW_PORT="0")
    assert output == "`make server` needs PostgreSQL: sudo apt install postgresql\n"


@pytest.mark.slow
@needs_postgresql
def test_a_second_start_goes_on_with_the_data_and_the_accounts_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with folder_for_postgresql() as folder:
        for first in (True, False):
            with team_server(folder, MLFLOW_HOST="0.0.0.0") as server:
                who, port = "admin" if first else "anna", server.address.rpartition(":")[2]
                named = f"http://{socket.gethostname().lower()}:{port}"
                for key, value in server.account(who).items():
                    monkeypatch.setenv(key, value)
                client = mlflow.MlflowClient(server.address)
                for origin, status in ((named, 200), ("http://elsewhere.example", 403)):  # of a browser's page
                    answer = requests.post(
                        f"{server.address}/ajax-api/2.0/mlflow/experiments/search",
                        json={"max_results": 1},
                        headers={"Origin": origin},
                        auth=("admin", server.account("admin")["MLFLOW_TRACKING_PASSWORD"]),
                        timeout=60,
                    )
                    assert answer.status_code == status
                if first:
                    server.add("anna")
                    run = client.create_run(client.create_experiment("kept"))
                    client.log_text(run.info.run_id, "kept", "text.txt")
                assert Path(client.download_artifacts(run.info.run_id, "text.txt", str(tmp_path))).read_text() == "kept"
                output = (folder / "server.txt").read_text()
                assert f"export MLFLOW_TRACKING_URI={named} " in output
                assert server.account("admin")["MLFLOW_TRACKING_PASSWORD"] not in output
            assert "Stopped." in (folder / "server.txt").read_text()
            assert not (folder / "database" / "postmaster.pid").exists()
        assert stat.S_IMODE((folder / "admin-password").stat().st_mode) == 0o600
        assert stat.S_IMODE((folder / "artifacts").stat().st_mode) == 0o700


@pytest.mark.slow
@needs_postgresql
def test_the_database_starts_whatever_its_folder_is_called_and_whoever_has_its_old_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("server", SCRIPT)
    assert spec
    assert spec.loader
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    monkeypatch.setenv("PGPORT", "5433")  # of another database of the person's
    sleep = shutil.which("sleep")
    assert sleep
    another = shutil.copy(sleep, tmp_path / "postgres")  # that other database
    with folder_for_postgresql() as folder, subprocess.Popen([another, "600"]) as bystander:
        data = folder / "o'brien's database"
        with server.database(data):
            assert (data / ".s.PGSQL.5432").exists()
        (data / "postmaster.pid").write_text(f"{bystander.pid}\n{data}\n")  # as after a power cut
        with server.database(data):
            assert bystander.poll() is None
        assert not (data / "postmaster.pid").exists()
        bystander.kill()
