"""`make server`: the team's MLflow server of compose.yaml, on a PostgreSQL of this machine instead of containers.

Database, artifacts and the administrator's first password lie in one folder: `server/`, or the argument.
The environment may set MLFLOW_HOST, MLFLOW_PORT, MLFLOW_ARTIFACTS_DESTINATION (s3://BUCKET, with the keys that boto3
reads), and whatever else `mlflow server` takes from it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from ruamel.yaml import YAML

HERE = Path(__file__).parent
PRIVATE = "10.*,172.1[6-9].*,172.2?.*,172.3[01].*,192.168.*"
PORT = "5432"  # a part of its socket's name
DEBIANS = Path("/usr/lib/postgresql")  # holds a folder a version, outside of PATH
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, `kill`, and a terminal that closes
OWNER = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root


def main(folder: Path) -> None:
    """Run database and server until Ctrl-C or SIGTERM; then stop both."""
    host, port = os.environ.get("MLFLOW_HOST", "0.0.0.0"), os.environ.get("MLFLOW_PORT", "5000")
    name = socket.gethostname().lower() if host == "0.0.0.0" else host
    check_port(host, port)
    check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / "admin-password"
    password.touch(mode=0o600)
    if not password.read_text(encoding="ascii"):
        password.write_text(secrets.token_urlsafe(18), encoding="ascii")
    interfaces = [item for items in psutil.net_if_addrs().values() for item in items]
    addresses = [name, *(item.address for item in interfaces if item.family is socket.AF_INET)]
    defaults = {
        "MLFLOW_HOST": host,
        "MLFLOW_PORT": port,
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{name}:*,localhost:*,127.0.0.1:*,{PRIVATE}",
        # Where browsers may have the pages from: MLflow takes those of any other name for a foreign site.
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{address}:{port}" for address in addresses),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    fixed = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PGHOST": str(folder / "database"),
        "PGPORT": PORT,
        "PGUSER": "mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(HERE / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password.read_text(encoding="ascii"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_TRACKING_")}
    command = YAML(typ="safe").load(HERE / "compose.yaml")["services"]["mlflow"]["command"]
    for stop in STOPS:
        if signal.getsignal(stop) != signal.SIG_IGN:  # nohup has SIGHUP ignored
            signal.signal(stop, signal.default_int_handler)
    try:
        with (
            FileLock(folder / "lock", timeout=0),
            database(folder / "database"),
            # A group of its own: Ctrl-C reaches this process alone, which stops MLflow before its database.
            subprocess.Popen(command, env={**defaults, **environment, **fixed}, process_group=0, umask=0o077) as server,
        ):
            try:
                if answers(server, f"http://{host}:{port}/health"):
                    print(advice(f"http://{name}:{port}", password), flush=True)
                server.wait()
            finally:
                server.terminate()
                server.wait()
        sys.exit(f"MLflow ended by itself, with status {server.returncode}; the reason is above.")
    except Timeout:
        sys.exit(f"Another `make server` is running in {folder}.")
    except KeyboardInterrupt:
        print(f"Stopped. The next `make server` continues with what {folder} holds.", flush=True)


def check_port(host: str, port: str) -> None:
    """Exit when another program listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError, OverflowError) as error:
            sys.exit(
                f"MLflow cannot listen on {host}:{port}: {error}. Choose a free port: make server MLFLOW_PORT=5050"
            )


def check_place(folder: Path) -> None:
    """Exit when PostgreSQL could not have its data there."""
    path = str(folder / "database" / f".s.PGSQL.{PORT}")  # its socket
    if len(os.fsencode(path)) > 107 or set(path) & set('$`",\\'):  # as its tools hand the path to a shell, unquoted
        sys.exit(
            f'PostgreSQL cannot have its socket at {path}: allowed are 107 bytes without $ ` " , and \\. '
            "Choose another folder: python deploy/server.py FOLDER"
        )


@contextmanager
def database(data: Path) -> Iterator[None]:
    """PostgreSQL on a socket in `data`, which no other user can enter; makes the database `mlflow` at first."""
    part, version = data.with_suffix(".part"), data / "PG_VERSION"
    if version.is_file():  # no other version reads it
        os.environ["PATH"] = os.pathsep.join([str(DEBIANS / version.read_text().strip() / "bin"), os.environ["PATH"]])
    find("initdb")  # or exit, before anything is made
    if not data.exists():  # it is whole, or not there: an interrupted creation is repeated
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        shutil.chown(part, OWNER or os.geteuid())
        postgresql("initdb", "--username=mlflow", "--auth=trust", "--encoding=UTF8", "--no-locale", f"--pgdata={part}")
        postgresql("postgres", "--single", "-D", str(part), "postgres", line="CREATE DATABASE mlflow")
        part.rename(data)
    control = ("pg_ctl", f"--pgdata={data}", "--silent", "--wait")
    pid_file = data / "postmaster.pid"
    if pid_file.exists():  # the last `make server` was killed
        if runs_in(data, pid_file.read_text(errors="replace").split()[:1]):
            postgresql(*control, "--mode=fast", "stop", check=False)
        pid_file.unlink(missing_ok=True)  # its number may be another program's now
    options = f"-k {shlex.quote(str(data))} -h '' -p {PORT}"
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until there is something to stop
        try:
            postgresql(*control, f"--log={data}/log", f"--options={options}", "start")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        yield
    finally:
        if pid_file.exists():
            postgresql(*control, "--mode=fast", "stop")


def runs_in(data: Path, numbers: list[str]) -> bool:
    """Whether the process of that number is the PostgreSQL of the folder `data`."""
    try:
        return bool(numbers) and str(data) in psutil.Process(int(numbers[0])).cmdline()
    except psutil.Error:  # it has ended
        return False


def find(program: str) -> str:
    """The path of a program of PostgreSQL's; exits without it."""
    newest = sorted(DEBIANS.glob("*/bin"), key=lambda path: (len(path.parent.name.partition(".")[0]), path))[::-1]
    places = [os.environ["PATH"], *map(str, newest)]
    executable = shutil.which(program, path=os.pathsep.join(places))
    if executable is None:
        sys.exit("`make server` needs PostgreSQL: sudo apt install postgresql")
    return executable


def postgresql(program: str, *arguments: str, line: str = "", check: bool = True) -> None:
    """Run a program of PostgreSQL's, in a session that Ctrl-C does not reach; exit with its complaint if it fails."""
    process = subprocess.run(
        [find(program), *arguments],
        input=line,
        capture_output=True,
        text=True,
        cwd="/",
        start_new_session=True,
        user=OWNER,
        group=OWNER,
        extra_groups=[] if OWNER else None,
    )
    if check and process.returncode:
        run_by = f", run as {OWNER}," if OWNER else ""
        sys.exit(f"{program}{run_by} fails: {(process.stderr or process.stdout).strip()}")


def answers(server: subprocess.Popen[bytes], address: str) -> bool:
    """Wait until the server answers; False when it ends before."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None:
        try:
            direct.open(address, timeout=5).close()
            return True
        except OSError:
            time.sleep(0.5)
    return False


def advice(address: str, password: Path) -> str:
    """What the team has to know."""
    return f"""
MLflow: {address} (Ctrl-C stops it). The administrator is admin, with the first password in {password}

To add a colleague, open {address}/signup as admin. An account reads everything; docs/team.md says how it may write,
and promote. The colleague then types
  export MLFLOW_TRACKING_URI={address} MLFLOW_TRACKING_USERNAME=NAME MLFLOW_TRACKING_PASSWORD=PASSWORD
"""


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else HERE.parent / "server").resolve())
