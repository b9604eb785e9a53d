"""A team at work on one server: real PostgreSQL, MLflow with accounts, artifacts in S3, two clones.

anna trains and owns what her pipeline creates, ben may edit experiments and models, cleo experiments alone, and dora
may only read. The tests build on each other, in this order.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests

from car_or_truck.cells import names
from car_or_truck.registry import champion as champions
from car_or_truck.registry import versions
from car_or_truck.tracking import version_copies
from helpers.clones import Project, copy
from helpers.processes import running
from helpers.servers import Server, folder_for_postgresql, needs_postgresql, storage, team_server
from helpers.stores import SYNTHETIC as NAME
from helpers.stores import runs

pytestmark = [pytest.mark.slow, needs_postgresql]


@dataclass
class Team:
    """The server, its store for artifacts, and the clones of two colleagues."""

    server: Server
    bucket: Any
    anna: Project
    ben: Project

    def run(self, who: str, *command: str, code: int = 0, **variables: str) -> str:
        """Run a command as a colleague; cleo and dora sit at ben's desk."""
        project = self.anna if who == "anna" else self.ben
        account = self.server.account(who)
        return project.run(*command, code=code, **account, **variables)


@pytest.fixture(scope="module")
def team(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """After anna delivered what she had trained, trained `tutorial` anew, and shared it; ben has cloned and pulled."""
    desks = tmp_path_factory.mktemp("desks")
    anna, ben = copy(finished, desks / "anna"), Project(desks / "ben")
    anna.run("dvc", "remote", "add", "--default", "shared", str(desks / "shared"))
    anna.edit(lambda tree: tree["variants"]["tutorial"].update(epochs=1))
    with (
        folder_for_postgresql() as folder,
        storage(desks, "team") as (bucket, keys),
        team_server(folder, **keys) as server,
    ):
        team = Team(server, bucket, anna, ben)
        server.add("anna", "experiment", "registered_model")
        server.add("ben", "experiment", "registered_model")
        server.add("cleo", "experiment")
        server.add("dora")
        assert f"{server.address}: 3 runs had to be delivered." in team.run("anna", "car-or-truck", "sync")
        team.run("anna", "dvc", "repro")
        anna.run("dvc", "push")
        anna.run("git", "add", ".")
        anna.run("git", "commit", "-q", "-m", "Results")
        anna.run("git", "clone", "-q", str(anna.root), str(ben.root))
        ben.run("dvc", "pull")
        yield team


@pytest.fixture
def client(team: Team, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """The administrator's."""
    for key, value in team.server.account("admin").items():
        monkeypatch.setenv(key, value)
    mlflow.set_tracking_uri(team.server.address)
    return mlflow.MlflowClient()


def aliases(client: mlflow.MlflowClient) -> dict[str, str]:
    """The variants that the aliases stand for."""
    return {alias: version.tags["variant"] for alias, version in versions.aliases(client, NAME).items()}


def numbers(client: mlflow.MlflowClient) -> dict[str, str]:
    """The newest version of each variant."""
    return {version.tags["variant"]: str(version.number) for version in versions.versions(client, NAME)[::-1]}


def objects(team: Team) -> list[str]:
    return [
        item["Key"]
        for page in team.bucket.get_paginator("list_objects_v2").paginate(Bucket="team")
        for item in page.get("Contents", [])
    ]


def test_runs_and_versions_are_on_the_server_with_their_artifacts_in_s3(
    team: Team, client: mlflow.MlflowClient
) -> None:
    cells, comparisons = runs(client), runs(client, of_cells=False)
    assert sorted(run.info.run_name for run in cells) == ["exercise-31415", "tutorial-31415", "tutorial-31415"]
    assert [run.info.status for run in [*cells, *comparisons]] == ["FINISHED"] * 5
    assert len(client.get_metric_history(cells[-1].info.run_id, "val_loss")) == 1
    assert {version.run_id for version in versions.versions(client, NAME)} == {run.info.run_id for run in cells}
    for run in cells:
        assert f"mlflow/{run.info.experiment_id}/{run.info.run_id}/artifacts/trace/predictions.csv" in objects(team)
    assert len([name for name in objects(team) if name.endswith("/data/model.keras")]) == 3
    assert not (team.server.folder / "artifacts").exists()


def test_who_may_not_promote_is_told_so_in_a_line_and_nothing_moves(team: Team, client: mlflow.MlflowClient) -> None:
    before = aliases(client)
    assert set(before) == {"challenger"}
    for who in ("cleo", "dora"):
        output = team.run(who, "car-or-truck", "promote", "--force", "it is mine", code=1)
        assert output.splitlines()[-1] == (
            f"{who} may not move the champion of {NAME} on {team.server.address}. "
            "The server's administrator can permit it: see docs/team.md."
        )
        assert "Traceback" not in output
    assert aliases(client) == before
    assert [(move.person, move.status) for move in champions.history(client, NAME)] == []


def test_a_colleague_who_may_promote_finds_the_models_of_another(team: Team, client: mlflow.MlflowClient) -> None:
    number = numbers(client)
    client.set_registered_model_alias(NAME, "challenger", number["exercise"])
    team.run("anna", "car-or-truck", "promote", number["tutorial"], "--force", "first")
    team.run("ben", "car-or-truck", "promote", "--force", "second")
    variants = aliases(client)
    assert (variants["champion"], variants["previous"]) == ("exercise", "tutorial")
    assert [(move.reason, move.status) for move in champions.history(client, NAME)] == [
        ("second", "FINISHED"),
        ("first", "FINISHED"),
    ]
    assert "second" in team.run("dora", "car-or-truck", "promote", "--history")


def test_the_champion_predicts_and_serves_for_whoever_may_read(team: Team, tmp_path: Path) -> None:
    table = pd.read_csv(team.ben.root / "reports/cells/exercise/31415/predictions.csv").head(4)
    pictures = [team.ben.root / "data/raw/valid" / name for name in table["name"]]
    output = team.run("dora", "car-or-truck", "predict", "--csv", *map(str, pictures), TMPDIR=str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} <= {"__pycache__"}  # of what TensorFlow compiles
    assert f"Using {NAME} version" in output
    predicted = [line.split(",") for line in output.splitlines() if line.startswith(str(team.ben.root))]
    assert [float(row[2]) for row in predicted] == pytest.approx(list(table["probability"]), abs=1e-3)

    command = ("mlflow", "models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local")
    with running(team.ben, *command, ready="/ping", **team.server.account("dora")) as address:
        rows = [{"image": base64.b64encode(picture.read_bytes()).decode()} for picture in pictures]
        answer = requests.post(address + "/invocations", json={"dataframe_records": rows}, timeout=60)
        assert answer.ok, answer.text
        served = [row["probability"] for row in answer.json()["predictions"]]
        assert served == pytest.approx(list(table["probability"]), abs=1e-3)


def test_a_colleague_reproduces_the_champion_of_another_to_the_byte(team: Team) -> None:
    output = team.run("dora", "car-or-truck", "reproduce", "--run")
    commit = team.ben.run("git", "log", "--format=%H", "--max-parents=0").strip()
    for part in (
        f"commit       {commit} (available)",
        "(in data/prepared)",
        "REPRODUCED: all 40 predictions are the same to the last bit; the model is the same to the byte.",
    ):
        assert part in output, part
    assert "not in the cache" not in output


def test_who_may_not_write_and_who_is_not_known_are_told_so_in_a_line(team: Team, client: mlflow.MlflowClient) -> None:
    before = {run.info.run_id for run in runs(client)}
    output = team.run("dora", "car-or-truck", "sync", code=1)
    assert output.splitlines()[-1] == (
        f"dora may not do this on {team.server.address}. The server's administrator can permit it: see docs/team.md."
    )
    assert {run.info.run_id for run in runs(client)} == before
    unknown = team.server.account("dora") | {"MLFLOW_TRACKING_PASSWORD": "another"}
    output = team.ben.run("car-or-truck", "predict", "x.png", code=1, **unknown)
    assert output.splitlines()[-1].endswith(
        "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an account there."
    )


def test_sync_delivers_what_a_colleague_pulled_and_the_comparison_of_it_once(
    team: Team, client: mlflow.MlflowClient
) -> None:
    before, champion = {run.info.run_id: run.data.metrics for run in runs(client)}, aliases(client)["champion"]
    assert f"{team.server.address}: 3 runs had to be delivered." in team.run("ben", "car-or-truck", "sync")
    after = {run.info.run_id: run.data.metrics for run in runs(client)}
    assert len(after) == len(before) + 2
    assert len(runs(client, of_cells=False)) == 3
    assert {run_id: after[run_id] for run_id in before} == before
    assert aliases(client)["champion"] == champion
    assert len(versions.versions(client, NAME)) == 3  # the same bytes are the same version, which names both runs
    for number in numbers(client).values():
        assert len(client.get_model_version(NAME, number).tags[version_copies.RUNS].split(", ")) == 2
    assert f"{team.server.address}: no runs had to be delivered." in team.run("ben", "car-or-truck", "sync")


def test_clean_is_for_the_owner_and_spares_what_a_colleague_delivered(team: Team, client: mlflow.MlflowClient) -> None:
    before = [run.info.run_id for run in runs(client)]
    (stale,) = [version for version in versions.versions(client, NAME) if version.run_id == replaced(client)]
    output = team.anna.run("car-or-truck", "clean", code=1, **team.server.account("ben"))
    assert output.splitlines()[-1].startswith(f"ben may not remove runs and versions from {team.server.address}. ")
    assert [run.info.run_id for run in runs(client)] == before
    assert "Moved to the trash." in team.run("anna", "car-or-truck", "clean")
    assert [run.info.run_id for run in runs(client)] == [run_id for run_id in before if run_id != stale.run_id]
    assert not versions.exists(client, NAME, str(stale.number))
    summary = json.loads((team.anna.root / "reports/comparison.json").read_text())
    assert {run.data.tags["comparison"] for run in runs(client, of_cells=False)} == {names.comparison_digest(summary)}


def replaced(client: mlflow.MlflowClient) -> str:
    """The run of `tutorial` with two epochs, which the one with a single epoch has taken the place of."""
    (old,) = [run.info.run_id for run in runs(client) if run.data.params.get("recipe.epochs") == "2"]
    return str(old)
