from __future__ import annotations

import ast
import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from PIL import Image

from car_or_truck.evaluate.reliability import UNLIKE, Reliability
from car_or_truck.prepare import images
from car_or_truck.train import runtime
from helpers.nets import built

RANDOM = np.random.default_rng(0)
WIDE = RANDOM.integers(0, 256, (40, 90, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def started() -> None:
    runtime.start(0, "float32")


def classifier(side: int = 32, image_size: int = 32, threshold: float = 0.5, **options: Any) -> Any:
    from car_or_truck.registry.serving import Classifier

    return Classifier(built(side, blocks=[{"filters": 4}]), image_size, ("Cat", "Dog"), threshold, **options)


def measured(limit: float = 1e9) -> Reliability:
    """What an evaluation could have found for that net: half as sure as it should be, and right on 99 images."""
    return Reliability(0.5, np.linspace(0, 0.6, 99), np.zeros(4, np.float32), np.eye(4, dtype=np.float32), limit)


def packed(pixels: Any = WIDE, form: str = "png", **options: Any) -> str:
    file = BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return base64.b64encode(file.getvalue()).decode()


def refusal(model: Any, *rows: dict[str, Any]) -> str:
    with pytest.raises(MlflowException) as caught:
        model.predict(pd.DataFrame(list(rows)))
    assert caught.value.get_http_status_code() == 400
    return str(caught.value.message)


def test_a_picture_of_any_size_is_letterboxed_as_in_training_and_answered_by_the_net(tmp_path: Path) -> None:
    model = classifier()
    Image.fromarray(WIDE).save(tmp_path / "wide.png")
    prepared = images.decode(tmp_path / "wide.png", 32).pixels
    expected = model.net(prepared[None] / np.float32(255)).numpy()[0, 0]
    rows = [
        {"image": packed()},
        {"image": "data:image/png;base64," + packed()},
        {"image": packed(form="webp", lossless=True)},
    ]
    answer = model.predict(pd.DataFrame(rows))
    np.testing.assert_allclose(answer["probability"], expected, atol=1e-6)
    assert set(answer["probability_of"]) == {"Dog"}
    assert list(answer["label"]) == ["Dog" if expected > 0.5 else "Cat"] * len(rows)
    assert list(answer.columns) == ["label", "probability", "probability_of"]


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "avif", "jpeg2000", "ppm"])
def test_every_usual_format_is_read_as_the_picture_that_it_holds(form: str) -> None:
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], 128), axis=-1).astype(np.uint8)
    model = classifier()
    decoded = model.decode(BytesIO(base64.b64decode(packed(picture, form)))).astype(int)
    assert np.abs(decoded - picture).mean() < 8  # most lose a little
    expected = model.net(decoded[None] / np.float32(255)).numpy()[0, 0]
    answer = model.predict(pd.DataFrame([{"image": packed(picture, form)}]))
    assert answer["probability"].item() == pytest.approx(expected, abs=1e-6)


def test_above_the_threshold_it_is_the_second_class() -> None:
    probability = classifier().probability(WIDE[None, :32, :32])
    for threshold, label in ((probability[0] - 1e-6, "Dog"), (probability[0], "Cat"), (probability[0] + 1e-6, "Cat")):
        assert classifier(threshold=threshold).labels(probability) == [label]


def test_a_net_that_sees_less_than_was_prepared_gets_what_it_was_trained_on() -> None:
    from car_or_truck.train.scaling import resized

    model = classifier(side=16, image_size=32)
    pixels = RANDOM.integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = model.net(resized(pixels, 16) / np.float32(255)).numpy()[:, 0]
    np.testing.assert_allclose(model.probability(pixels), expected, atol=1e-6)


def test_many_pictures_are_answered_as_one_by_one() -> None:
    model = classifier()
    pixels = RANDOM.integers(0, 256, (150, 32, 32, 3), np.uint8)
    probability = model.probability(pixels)
    assert probability.shape == (150,)
    np.testing.assert_allclose(
        probability[[0, 77, 149]], [model.probability(pixels[[n]])[0] for n in (0, 77, 149)], atol=1e-6
    )
    assert model.probability(pixels[:0]).shape == (0,)


def test_an_evaluated_model_says_how_far_to_rely_on_its_answer() -> None:
    plain, model = classifier(), classifier(reliability=measured())
    model.net.set_weights(plain.net.get_weights())
    pixels = RANDOM.integers(0, 256, (70, 32, 32, 3), np.uint8)
    bare, full = plain.answers(pixels), model.answers(pixels)
    assert list(bare.columns) == ["label", "probability", "probability_of"]
    assert list(full.columns) == [*bare.columns, "confidence", "unlike", "note"]
    np.testing.assert_allclose(full["probability"], bare["probability"], atol=1e-6)
    assert list(full["label"]) == list(bare["label"])
    odds = np.maximum(full["probability"], 1 - full["probability"]) / np.minimum(
        full["probability"], 1 - full["probability"]
    )
    np.testing.assert_allclose(full["confidence"], odds**2 / (1 + odds**2))
    assert not full["unlike"].any()
    assert set(full["note"]) == {""}
    strange = classifier(reliability=measured(limit=0.0)).answers(pixels)
    assert strange["unlike"].all()
    assert set(strange["note"]) == {UNLIKE}
    assert list(model.answers(pixels[:0]).columns) == list(full.columns)


def test_a_prediction_set_holds_the_labels_that_the_coverage_needs() -> None:
    model = classifier(reliability=measured())
    answers = model.predict(pd.DataFrame([{"image": packed()}]), {"coverage": 0.9})
    assert answers["prediction_set"][0] == [
        name
        for name, score in (("Cat", answers["probability"][0]), ("Dog", 1 - answers["probability"][0]))
        if score <= np.linspace(0, 0.6, 99)[89]
    ]
    assert model.predict(pd.DataFrame([{"image": packed()}]), {"coverage": 0.999})["prediction_set"][0] == [
        "Cat",
        "Dog",
    ]
    assert "prediction_set" not in model.predict(pd.DataFrame([{"image": packed()}]), {"coverage": None})
    for wrong in (0.0, 1.0, 95.0):
        with pytest.raises(MlflowException, match="must be between 0 and 1"):
            model.predict(pd.DataFrame([{"image": packed()}]), {"coverage": wrong})
    with pytest.raises(MlflowException, match="Coverage needs a registered model that was evaluated"):
        classifier().predict(pd.DataFrame([{"image": packed()}]), {"coverage": 0.9})


def test_a_version_logged_by_earlier_code_still_answers() -> None:
    from car_or_truck.registry import loading

    model = classifier(reliability=measured())

    class Earlier:
        """What a Classifier had before there were `answers`."""

        classes, image_size, labels, probability = model.classes, 32, model.labels, model.probability

    pixels = RANDOM.integers(0, 256, (3, 32, 32, 3), np.uint8)
    answers = loading.answers(Earlier, pixels, None)
    pd.testing.assert_frame_equal(answers, model.answers(pixels)[["label", "probability", "probability_of"]])
    with pytest.raises(ValueError, match="coverage needs a model of a later version"):
        loading.answers(Earlier, pixels, 0.9)


def bomb() -> str:
    file = BytesIO()
    Image.new("1", (9000, 9000)).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"image": "/etc/passwd"},
            "row 0: image: not base64; give the bytes of a picture file in base64, not its name",
        ),
        ({"image": "file:///etc/passwd"}, "not base64"),
        ({"image": "http://127.0.0.1:9/photo.jpg"}, "not base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, "row 0: image: not an image"),
        ({"image": ""}, "row 0: image: not an image"),
        ({"image": packed()[:400]}, "row 0: image: image file is truncated"),
        ({"image": 3}, "row 0: image: not text, but int"),
        ({"image": None}, "row 0: image: not text, but NoneType"),
        ({"image": base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").decode()}, "not an image"),
        ({"image": bomb()}, "9000x9000 pixels are more than 64,000,000"),
        ({"picture": "x"}, "rows need a column `image`"),
        ({"pixels": WIDE.tolist()}, "rows need a column `image`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_row_is_refused_with_what_is_wrong(row: dict[str, Any], says: str) -> None:
    assert says.lower() in refusal(classifier(), row).lower()


def test_wrong_rows_are_named_among_right_ones_and_not_all_of_many() -> None:
    right = {"image": packed()}
    assert refusal(classifier(), right, {"image": "?"}, right).startswith("Row 1: image: not base64")
    assert refusal(classifier(), *[{"image": "?"}] * 9).endswith("; and 4 more.")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(content=st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=4))))
def test_no_content_does_anything_but_answer_or_refuse(content: Any, only_model: Any) -> None:
    if isinstance(content, tuple):  # a picture with a few bytes changed
        whole, (place, change) = base64.b64decode(packed(WIDE[:8, :8])), content
        content = whole[:place] + change + whole[place + len(change) :]
    answer = outcome(only_model, base64.b64encode(content).decode())
    assert 0 <= answer <= 1 if isinstance(answer, float) else answer.startswith("Row 0: image: ")


def outcome(model: Any, image: str) -> float | str:
    """The probability, or the message of the refusal; any other exception fails the test."""
    try:
        return float(model.predict(pd.DataFrame({"image": [image]}))["probability"].item())
    except MlflowException as refused:
        return str(refused.message)


@pytest.fixture(scope="module")
def only_model() -> Any:
    return classifier()


def test_the_shipped_files_import_of_the_project_only_one_another() -> None:
    from car_or_truck.tracking import model as flavour

    shipped = {(flavour.PACKAGE / name).with_suffix("") for name in flavour.SHIPPED}
    for name in flavour.SHIPPED:
        file = flavour.PACKAGE / name
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                assert folder in shipped or {folder / alias.name for alias in node.names} <= shipped, name
            elif isinstance(node, ast.ImportFrom | ast.Import):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not [module for module in modules if module.split(".")[0] == "car_or_truck"], name


def test_it_is_loaded_from_what_mlflow_keeps(tmp_path: Path) -> None:
    from car_or_truck.registry import serving

    model = classifier()
    model.net.save(tmp_path / "model.keras")
    about = {"image_size": 32, "classes": ["Cat", "Dog"], "threshold": 0.5, "cell": "x"}
    (tmp_path / "serving.json").write_text(json.dumps(about))
    loaded = serving._load_pyfunc(str(tmp_path))
    rows = pd.DataFrame([{"image": packed()}])
    pd.testing.assert_frame_equal(loaded.predict(rows), model.predict(rows))
    assert loaded.get_raw_model().classes == ["Cat", "Dog"]
    measured().save(tmp_path / "reliability.npz")  # as `evaluate` adds it
    assert "confidence" in serving._load_pyfunc(str(tmp_path)).predict(rows)
    np.savez(tmp_path / "reliability.npz", temperature=1.0)  # as other code might
    pd.testing.assert_frame_equal(serving._load_pyfunc(str(tmp_path)).predict(rows), model.predict(rows))
