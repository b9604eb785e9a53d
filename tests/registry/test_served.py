"""The registered model as `mlflow models serve` serves it, and in an environment of its own requirements."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import requests

from helpers.clones import Project
from helpers.environments import new_environment
from helpers.processes import running
from helpers.stores import SYNTHETIC as NAME


def champion(project: Project) -> int:
    """Give the alias to the newest version, as a person does in the UI; returns its number."""
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    newest = max(int(version.version) for version in client.search_model_versions(f"name = '{NAME}'"))
    client.set_registered_model_alias(NAME, "champion", str(newest))
    return newest


def pictures(project: Project, number: int) -> tuple[list[str], list[float]]:
    """The first of the fetched images as files in base64, and what the evaluation said of them."""
    client = mlflow.MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    variant = client.get_model_version(NAME, str(number)).tags["variant"]
    table = pd.read_csv(project.root / f"reports/cells/{variant}/31415/predictions.csv").head(8)
    files = [(project.root / "data/raw/valid" / name).read_bytes() for name in table["name"]]
    return [base64.b64encode(file).decode() for file in files], list(table["probability"])


@pytest.mark.slow
def test_the_champion_is_served_and_refuses_what_is_wrong(project: Project) -> None:
    number = champion(project)
    images, expected = pictures(project, number)
    command = ("mlflow", "models", "serve", "-m", f"models:/{NAME}@champion", "--env-manager", "local")
    with running(project, *command, ready="/ping") as address:

        def ask(body: Any) -> requests.Response:
            content = body if isinstance(body, str) else json.dumps(body)
            return requests.post(
                address + "/invocations", content, headers={"Content-Type": "application/json"}, timeout=60
            )

        right: list[Any] = [
            {"dataframe_records": [{"image": image} for image in images]},
            {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}},
            {"inputs": {"image": images}},
        ]
        for body in right:
            answer = ask(body)
            assert answer.status_code == 200, answer.text
            output = pd.DataFrame(answer.json()["predictions"])
            assert list(output["probability"]) == pytest.approx(expected, abs=1e-3)
            assert list(output["label"]) == ["Truck" if value > 0.5 else "Car" for value in output["probability"]]

        wrong: list[tuple[Any, str]] = [
            ({"dataframe_records": [{"image": str(project.root / "data/raw/valid/Car")}]}, "not base64"),
            ({"dataframe_records": [{"image": f"{address}/ping"}]}, "not base64"),
            ({"dataframe_records": [{"image": base64.b64encode(b"text").decode()}]}, "Row 0: image: not an image"),
            ({"dataframe_records": [{"image": 7}]}, "not text, but int"),
            ({"dataframe_records": [{"photo": "x"}]}, "Model is missing inputs ['image']"),
            ({"dataframe_records": [{"pixels": [[0, 128]]}]}, "Model is missing inputs ['image']"),
            ({"rows": []}, "exactly one of the input fields"),
            ("{", "valid JSON"),
        ]
        for body, says in wrong:
            answer = ask(body)
            assert answer.status_code == 400, answer.text
            assert says in answer.json()["message"]


@pytest.mark.slow
def test_the_model_answers_in_a_clean_environment_made_from_its_own_requirements(
    project: Project, tmp_path: Path
) -> None:
    number = champion(project)
    images, expected = pictures(project, number)
    mlflow.set_tracking_uri(f"sqlite:///{project.root / 'mlflow.db'}")
    folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}/{number}", dst_path=str(tmp_path / "model"))
    python = new_environment(tmp_path / "clean", "-r", f"{folder}/requirements.txt") / "python"
    script = """
import json, sys
import mlflow, pandas
rows = pandas.DataFrame({"image": json.load(sys.stdin)})
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)
net = mlflow.tensorflow.load_model(sys.argv[1])
assert not any(name.split(".")[0] == "car_or_truck" for name in sys.modules)
print(json.dumps([list(answer["probability"]), net.count_params()]))
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.run(
        [python, "-c", script, folder],
        input=json.dumps(images),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert process.returncode == 0, process.stderr
    output, parameters = json.loads(process.stdout.splitlines()[-1])
    assert output == pytest.approx(expected, abs=1e-3)
    assert parameters in (107_085, 253_133)
