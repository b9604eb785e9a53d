"""`predict`: files, folders, URLs and stdin, by a model folder or a registered version."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from car_or_truck.commands import predict
from car_or_truck.errors import Failure
from car_or_truck.tracking import store
from helpers.clones import Project
from helpers.registered import console, version
from helpers.sources import served


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a person has it: pictures of all sizes and formats, one broken, and other files."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number, (form, size) in enumerate((("png", (10, 300)), ("jpeg", (64, 64)), ("webp", (7, 5)))):
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{form}")
    (folder / "broken.jpg").write_bytes((folder / "1.jpeg").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.mark.usefixtures("standing_in_finished")
def test_a_broken_file_is_reported_and_the_others_are_answered(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "models/exercise/31415"
    assert predict.predict([str(pictures), "missing.png"], model, predict.Output("json"), Console(stderr=True)) == 2
    output = capsys.readouterr()
    answers = json.loads(output.out)
    assert [Path(answer["image"]).name for answer in answers] == ["0.png", "1.jpeg", "2.webp"]
    for answer in answers:
        assert answer["label"] == ("Truck" if answer["probability"] > 0.5 else "Car")
        assert answer["probability_of"] == "Truck"
    assert "broken.jpg: " in output.err
    assert "missing.png: no such file" in output.err
    predict.predict([str(pictures)], model, predict.Output("csv"), Console(stderr=True))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["probability"]) for row in rows] == [answer["probability"] for answer in answers]
    with pytest.raises(Failure, match="'' is not a version"):
        predict.predict([str(pictures)], "", predict.Output(), Console(stderr=True))


@pytest.mark.usefixtures("standing_in_finished")
@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_a_file_name_may_be_of_any_bytes(
    form: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(pictures / "0.png", tmp_path / "caf\udce9.png")  # Latin-1, as in old archives
    predict.predict([str(tmp_path)], "models/exercise/31415", predict.Output(form), Console(stderr=True))
    assert "caf%E9.png" in capsys.readouterr().out


@pytest.mark.usefixtures("standing_in_finished")
def test_a_prediction_is_the_evaluations_and_the_registered_models(
    finished: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = pd.read_csv(finished.root / "reports/cells/exercise/31415/predictions.csv").set_index("name")
    number = version(store.open_store(), "exercise").number
    for model in ("models/exercise/31415", str(number)):
        predict.predict(["data/raw/valid/Truck"], model, predict.Output("json"), Console(stderr=True))
        answers = json.loads(capsys.readouterr().out)
        assert len(answers) == (expected["label"] == 1).sum()
        for answer in answers:
            name = answer["image"].removeprefix("data/raw/valid/")
            assert answer["probability"] == pytest.approx(expected.loc[name, "probability"], abs=1e-3)


@pytest.mark.usefixtures("standing_in_finished")
def test_a_registered_model_adds_confidence_and_prediction_sets_in_every_form(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(version(store.open_store(), "exercise").number)
    picture = str(pictures / "1.jpeg")

    def output(form: str, coverage: float | None = None) -> str:
        predict.predict([picture], model, predict.Output(form, coverage), Console(stderr=True))
        return capsys.readouterr().out

    (answer,) = json.loads(output("json", 0.9))
    assert answer["confidence"] >= 0.5
    assert (answer["unlike"], answer["note"]) == (False, "")
    assert set(answer["prediction_set"]) <= {"Car", "Truck"}
    (row,) = csv.DictReader(io.StringIO(output("csv", 0.9)))
    assert float(row["confidence"]) == answer["confidence"]
    assert row["prediction_set"] == "|".join(answer["prediction_set"])
    text = f"{picture}  {answer['label']:<8}  {answer['confidence']:>6.1%}"
    unsure = "  unsure" if answer["confidence"] < predict.UNSURE else ""
    assert output("text") == f"{text}{unsure}\n"
    assert output("text", 0.9) == f"{text}  90% set: {' or '.join(answer['prediction_set']) or 'none'}{unsure}\n"
    picture = str(pictures / "broken.jpg")  # without an answer
    assert [output(form, 0.9) for form in ("text", "json")] == ["", "[]\n"]
    assert len(output("csv", 0.9).splitlines()) == 1


@pytest.mark.usefixtures("standing_in_finished")
def test_a_model_that_was_not_evaluated_has_no_prediction_sets(pictures: Path) -> None:
    with pytest.raises(Failure, match="coverage needs a registered model"):
        predict.predict([str(pictures)], "models/exercise/31415", predict.Output(coverage=0.9), Console(stderr=True))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"confidence": 0.938}, "a.png  Car        93.8%"),
        ({"confidence": 0.938, "unlike": True}, "a.png  Car        93.8%  unlike the training images"),
        ({"confidence": 0.749, "unlike": False}, "a.png  Car        74.9%  unsure"),
        ({"confidence": 0.99999}, "a.png  Car       >99.9%"),
        ({}, "a.png  Car        80.0%"),  # of a model that was not evaluated
    ],
)
def test_a_line_says_label_and_confidence_and_what_to_doubt(answer: dict[str, Any], line: str) -> None:
    row = {"image": "a.png", "label": "Car", "probability": 0.2, "probability_of": "Truck"}
    assert predict.line({**row, **answer}, 5, None) == line


@pytest.mark.usefixtures("standing_in_finished")
def test_an_explanation_is_drawn(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "why" / "why.png"
    predict.predict([str(pictures)], "models/exercise/31415", predict.Output(explain=path), console())
    with Image.open(path) as drawn:
        assert drawn.width > 1000


def test_a_picture_is_downloaded_from_a_url_within_limits(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(pictures) as address:
        content = predict.Picture(f"{address}/1.jpeg").read()
        assert isinstance(content, io.BytesIO)
        assert content.read() == (pictures / "1.jpeg").read_bytes()
        monkeypatch.setattr(predict, "MOST_BYTES", 1000)
        with pytest.raises(ValueError, match=r"larger than 0.001 MB"):
            predict.Picture(f"{address}/1.jpeg").read()
        monkeypatch.undo()
    monkeypatch.setattr(predict, "MOST_SECONDS", 0.3)
    with served(pictures, pause=20) as address, pytest.raises(ValueError, match=r"not all there after 0.3 seconds"):
        predict.Picture(f"{address}/1.jpeg").read()


def test_stdin_is_a_picture_or_a_list(pictures: Path) -> None:
    content = (pictures / "1.jpeg").read_bytes()
    assert list(predict.pictures(["-"], io.BytesIO(content))) == [predict.Picture("stdin", content)]
    much = "x" * 5000  # longer than a file's name may be
    assert list(predict.pictures([much, "a.png"], io.BytesIO())) == [predict.Picture(much), predict.Picture("a.png")]
    with pytest.raises(Failure, match=r"The name of an image is empty"):
        list(predict.pictures([""], io.BytesIO()))
    listed = f"{pictures}\n\nhttp://host/photo.jpg\n".encode()
    names = [Path(picture.name).name for picture in predict.pictures(["-"], io.BytesIO(listed))]
    assert names == ["0.png", "1.jpeg", "2.webp", "broken.jpg", "photo.jpg"]
    odd = ["caf\udce9.png", " a .png", "a\u2028b.png"]
    listed = os.fsencode("\r\n".join(odd))
    assert [picture.name for picture in predict.pictures(["-"], io.BytesIO(listed))] == odd
