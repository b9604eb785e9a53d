"""A store that moves with its folder.

MLflow's locations are absolute, so those in mlflow.db name the root that they were made in. In a folder that was
moved they are rewritten. A copy beside its original is refused, because it would write into the original's mlruns/,
until it was made independent. An MLmodel file names its own place too, but MLflow never looks there.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from car_or_truck.cells import names
from car_or_truck.errors import Failure, summarize
from car_or_truck.tracking import processes

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
ARTIFACT_LOCATIONS = LOCATIONS[1:3]  # a version has its model's; an experiment's folder also holds what others wrote
BACKUP = ".before-relocation"
PATIENCE = 60  # seconds, for another process that writes
BUSY = 900  # seconds since its last epoch, after which a training on another machine counts as dead


def settle(database: Path, independent: bool = False) -> bool:
    """Let the store `database` keep its artifacts in the mlruns/ beside it; returns whether that had to be done.

    `independent`: of a copy too, which takes what it lacks from its original; else a copy is a Failure.
    """
    former, new_root = _former_roots(database), database.parent.resolve()
    originals = [root for root in former.values() if _remains(root, database.name)]
    if originals and not independent:
        raise Failure(
            f"{database} is a copy of the store in {originals[0]}, and would write into the mlruns/ there.\n"
            "`car-or-truck sync --independent` gives it artifacts of its own."
        )
    if not former:
        return False
    try:
        with closing(sqlite3.connect(database, timeout=PATIENCE, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # a second process waits here, and finds nothing left to do
            former = _former_roots(database)
            if not former:
                return False
            _refuse_while_busy(connection, database, former)
            moves = {prefix: new_root.as_uri() for prefix in former} | {
                str(root): str(new_root) for root in former.values()
            }
            if independent:
                _bring_artifacts(connection, moves, former.values(), new_root)
            _back_up(database)
            connection.create_function("relocated", 1, lambda location: _relocated(location, moves))
            for table, column in LOCATIONS:
                connection.execute(f"UPDATE {table} SET {column} = relocated({column})")
            lost = sum(not folder.is_dir() for folder in _folders(connection, "logged_models", "artifact_location"))
            connection.execute("COMMIT")
    except (OSError, sqlite3.Error) as error:
        raise Failure(f"The locations in {database} cannot be made to name {new_root}: {summarize(error)}") from None
    places = " and ".join(str(root) for root in former.values())
    warning = f" {lost} of its models are not there." if lost else ""
    print(f"{database} was in {places}: its locations now name {new_root}.{warning}", file=sys.stderr, flush=True)
    return True


def _refuse_while_busy(connection: sqlite3.Connection, database: Path, former: dict[str, Path]) -> None:
    """Raise Failure while a training writes there: under the same folder's other path, as a container has one."""
    cursor = connection.execute(
        "SELECT tags.value, MAX(start_time, COALESCE(MAX(metrics.timestamp), 0)) FROM runs "
        "JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? "
        "LEFT JOIN metrics ON metrics.run_uuid = runs.run_uuid WHERE runs.status = 'RUNNING' GROUP BY runs.run_uuid",
        (processes.TAG,),
    )
    for process, milliseconds in cursor.fetchall():
        if not processes.is_gone(process) and time.time() - milliseconds / 1000 < BUSY:
            raise Failure(
                f"A training on {process.partition(':')[0]} writes to {database} by its path in "
                f"{', '.join(map(str, former.values()))}. Let it end first, or stop it there."
            )


def local_path(location: str | None) -> Path | None:
    """The folder that a location names, a path or a file URI; None for any other URI."""
    parts = urlsplit(location or "")
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if location and location.startswith("/") else None


def lies_in(location: str | None, root: Path) -> bool:
    """Whether a location is in the folder `root`, by whatever path and links."""
    path = local_path(location)
    return path is not None and any(_is_same(parent, root) for parent in path.parents)


def _former_roots(database: Path) -> dict[str, Path]:
    """The other roots that the project's experiments name, by the prefixes of their locations.

    None of a file that is no store, or not a whole one: MLflow says what is wrong.
    """
    if not database.is_file():
        return {}
    try:
        with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
            locations = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    except sqlite3.Error:
        return {}
    former = {}
    for (location,) in locations:
        path = local_path(location)
        if path and path.parent.name == "mlruns" and path.name.startswith(names.REAL):
            root = path.parents[1]
            if not _is_same(root, database.parent) and not _is_same(root / database.name, database):  # links
                former[location.rsplit("/", 2)[0]] = root
    return former


def _remains(root: Path, database: str) -> bool:
    """Whether a store, or what it kept, is still there."""
    try:
        return (root / database).exists() or any((root / "mlruns").glob(f"{names.REAL}*"))
    except OSError:
        return False  # nobody who may not look there can write there


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _relocated(location: str | None, moves: dict[str, str]) -> str | None:
    """The location with the longest of the prefixes that it has replaced; unchanged when that is a new one.

    The longest, because a project may move into a folder of its own, or out of it.
    """
    if location is None:
        return None
    fitting = [prefix for prefix in (*moves.values(), *moves) if f"{location}/".startswith(f"{prefix}/")]
    prefix = max(fitting, key=len, default="")
    return location if prefix in (*moves.values(), "") else moves[prefix] + location[len(prefix) :]


def _folders(connection: sqlite3.Connection, table: str, column: str) -> Iterable[Path]:
    """The local folders in a column."""
    paths = (local_path(location) for (location,) in connection.execute(f"SELECT {column} FROM {table}"))
    return [path for path in paths if path]


def _bring_artifacts(
    connection: sqlite3.Connection, moves: dict[str, str], roots: Iterable[Path], new_root: Path
) -> None:
    """Copy the files that the store's runs and models have in the original, and lack here."""
    shared = next((root for root in roots if _is_same(root / "mlruns", new_root / "mlruns")), None)
    if shared:
        raise Failure(
            f"{new_root / 'mlruns'} is the folder of {shared} too. Replace the link by a copy of that folder."
        )
    for table, column in ARTIFACT_LOCATIONS:
        for source in _folders(connection, table, column):
            target = Path(str(_relocated(str(source), moves)))
            if source != target and source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_copy_if_lacking)


def _copy_if_lacking(source: str, target: str) -> None:
    """Copy a file, whole or not at all, unless it is there."""
    if not Path(target).exists():
        shutil.copy2(source, f"{target}.part")
        Path(f"{target}.part").rename(target)


def _back_up(database: Path) -> None:
    """Copy the database beside itself, whole or not at all; by SQLite, which keeps its locks."""
    part, backup = (database.with_name(f"{database.name}{BACKUP}{end}") for end in (".part", ""))
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    part.replace(backup)
