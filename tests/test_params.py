from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from car_or_truck import params
from car_or_truck.errors import Failure
from helpers.clones import ROOT

# What a person trains changes from day to day
TRAINED = {"variants": "[sprint, tutorial, exercise]", "seeds": "[31415]"}
SHIPPED = re.sub(
    r"^(  (variants|seeds): )\[.*?\]",
    lambda line: line[1] + TRAINED[line[2]],
    (ROOT / "params.yaml").read_text(),
    flags=re.MULTILINE,
)


def tree() -> Any:
    return YAML(typ="safe").load(SHIPPED)


def failure(text: str, folder: Path) -> str:
    path = folder / "params.yaml"
    path.write_text(text)
    with pytest.raises(Failure) as caught:
        params.load(path)
    return str(caught.value).replace(str(path), "params.yaml")


def test_the_shipped_file_is_read() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.cells == [(variant, seed) for variant in loaded.train.variants for seed in loaded.train.seeds]
    assert set(loaded.variants) >= {"tutorial", "exercise", "exercise-prose", "four-blocks"}
    assert loaded.variants["tutorial"].optimizer.arguments == {"learning_rate": 0.001, "epsilon": 0.01}


def test_every_key_before_the_variants_has_a_comment() -> None:
    before_variants = SHIPPED.split("\nvariants:")[0]
    for line in before_variants.splitlines():
        if line.strip() and not line.lstrip().startswith("#") and not line.rstrip().endswith(":"):
            assert "#" in line, line


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("dropout: 0.2", "dropuot: 0.2", "variants.exercise.head.dropuot is an unknown key; did you mean 'dropout'?"),
        ("dropout: 0.2", "dropout: 1.0", "variants.exercise.head.dropout is 1.0: should be less than 1"),
        ("filters: 32, kernel_size: 5", "filters: 0", "variants.tutorial.blocks.0.filters is 0: should be greater"),
        (
            "name: adam, learning_rate: 0.001",
            "name: adma, learning_rate: 1",
            "optimizer.name is 'adma': should be 'adam',",
        ),
        (
            "epsilon: 0.01",
            "momentum: 0.9",
            "variants.tutorial.optimizer: adam takes no momentum (0.9); it takes beta_1",
        ),
        (
            "[sprint, tutorial, exercise]",
            "[tutorail]",
            "train.variants lists 'tutorail', which is not defined; did you mean",
        ),
        (
            "[sprint, tutorial, exercise]",
            "[tutorial, tutorial]",
            "train.variants is ['tutorial', 'tutorial']: tutorial is listed twice",
        ),
        ("[sprint, tutorial, exercise]", "[]", "train.variants is []"),
        ("epochs: 40", "epochs: '40'", "variants.tutorial.epochs is '40': should be a valid integer"),
        ("seeds: [31415]", "seeds: []", "train.seeds is []: should have at least 1 item"),
        ("batch_size: 64", "batch_size: {a: 1}", "train.batch_size is {'a': 1}: should be a valid integer"),
        (
            "units: 6, dropout: 0.0",
            "units: six, dropout: 0.0",
            "variants.tutorial.head.units is 'six': should be a number or a list of numbers",
        ),
        ("epochs: 40", "epochs: 40.5", "variants.tutorial.epochs is 40.5"),
        ("epochs: 40", "epochs: 40\n    epochs: 41", 'found duplicate key "epochs"'),
        ("image_size: 128", "image_size: 8", "variants.four-blocks.blocks has 4 blocks, which pool 8 pixels"),
        ("sources: [kaggle, rendered]", "sources: [kagle]", "data.sources.0 is 'kagle': should be 'kaggle', 'archive'"),
        (
            "sources: [kaggle, rendered]",
            "sources: [archive]",
            "sources lists archive, so data.archive.url must be given",
        ),
        ("precision: auto", "precision: fp8", "train.precision is 'fp8': should be 'auto', 'float32' or"),
        ("seeds: [31415]", "seeds: [-1]", "train.seeds.0 is -1"),
        ("seeds: [31415]", "seeds: 31415", "train.seeds is 31415: should be a list"),
        ("learning_rate: 0.001,", "learning_rate: .nan,", "variants.tutorial.optimizer.learning_rate is nan"),
        ("  four-blocks:", "  Four_Blocks:", "variants.Four_Blocks is 'Four_Blocks': should match pattern"),
        ("data:\n", "daat:\n", "daat is an unknown key; did you mean 'data'?"),
        ("train: 448", "train: 7", "data.rendered.train is 7"),
        ("sha256: null", "sha256: abc", "data.archive.sha256 is 'abc'"),
        (
            "epochs: 40",
            "epochs: 40\n    augment: {flp: true}",
            "tutorial.augment.flp is an unknown key; did you mean 'flip'?",
        ),
        (
            "epochs: 40",
            "epochs: 40\n    early_stopping: {patience: 0}",
            "early_stopping.patience is 0: should be greater",
        ),
        ("epochs: 40", "epochs: 40\n    early_stopping: {wait: 2}", "early_stopping.wait is an unknown key"),
        (
            "application: VGG16, weights: imagenet,",
            "application: VGG16, weights: mine.h5,",
            "vgg16.base: weights is the file 'mine.h5', so sha256 must be given beside it (`sha256sum mine.h5`)",
        ),
        (
            "application: VGG16, weights: imagenet,",
            f"application: VGG16, weights: imagenet, sha256: {'a' * 64},",
            "variants.vgg16.base: sha256 is for a weights file, but weights is imagenet",
        ),
        (
            "application: VGG16, weights: imagenet,",
            "application: VGG16, weights: mine.h5, sha256: abc,",
            "variants.vgg16.base.sha256 is 'abc': should match pattern",
        ),
        (
            "epochs: 40",
            "epochs: 40\n    initial_from: exercise",
            "tutorial.initial_from is an unknown key; allowed",
        ),
        ("jpeg: [25, 10]", "jpeg: [10, 25]", "jpeg is [10, 25]: the second strength must be the stronger one"),
        ("noise: [0.05, 0.1]", "noise: [0.1, 0.1]", "noise is [0.1, 0.1]: the second strength must be the stronger"),
        ("noise: [0.05, 0.1]", "noise: [0.05, 12]", "evaluate.corruptions.noise.1 is 12: should be less than 1"),
        ("noise: [0.05, 0.1]", "noise: [0.05]", "evaluate.corruptions.noise.1 is missing"),
        ("jpeg: [25, 10]", "jpeg: [25.5, 10]", "evaluate.corruptions.jpeg.0 is 25.5: should be a valid integer"),
        ("corrupted_share: 0.3", "corrupted_share: 0", "evaluate.corrupted_share is 0: should be greater than 0"),
        ("slices: true", "slices: 3", "evaluate.slices is 3: should be a valid boolean"),
        (
            "max_slice_drop: null",
            "max_slice_drop: 5",
            "promotion.max_slice_drop is 5: should be less than or equal to 1",
        ),
        ("min_accuracy: 0.7", "min_accuracy: 2026-02-31", "is not valid YAML: day is out of range for month"),
        ("min_accuracy: 0.7", "min_accuracy: 70", "promotion.min_accuracy is 70: should be less than or equal to 1"),
        (
            "application: VGG16,",
            "application: VGG61,",
            "vgg16.base.application is 'VGG61': should be one of keras.applications",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert old in SHIPPED
    message = failure(SHIPPED.replace(old, new, 1), tmp_path)
    assert says in message
    assert len(message.splitlines()) <= 4


@pytest.mark.parametrize("text", ["", "- a list", "data: {a: b", "\x00"])
def test_what_is_no_parameter_file_is_refused(text: str, tmp_path: Path) -> None:
    assert failure(text, tmp_path).startswith("params.yaml")


@pytest.mark.parametrize("classes", ["[]", "[Car]", "[Car, Truck, Bus]"])
def test_anything_but_two_classes_is_named(classes: str, tmp_path: Path) -> None:
    output = failure(SHIPPED.replace("classes: [Car, Truck]", f"classes: {classes}"), tmp_path)
    assert output.startswith("params.yaml: data.classes")
    assert len(output.splitlines()) == 1


def test_an_address_in_braces_needs_quotes(tmp_path: Path) -> None:
    text = SHIPPED.replace("  classes: [Car, Truck]", "  classes: {a: https://example.org/a.zip}")
    assert failure(text, tmp_path).endswith("Put quotes around a value with a colon.")


def test_a_missing_file_says_where_to_stand(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="run this from the project's root"):
        params.load(tmp_path / "params.yaml")


def test_a_number_with_an_exponent_and_no_point_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(SHIPPED)
    (tmp_path / "exponent.yaml").write_text(SHIPPED.replace("learning_rate: 0.0001", "learning_rate: 1e-4"))
    assert params.load(tmp_path / "exponent.yaml") == params.load(tmp_path / "params.yaml")


def mappings(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all mappings with fixed keys in the parameters."""
    if isinstance(node, list):
        return [inner_path for place, item in enumerate(node) for inner_path in mappings(item, (*path, place))]
    if not isinstance(node, dict):
        return []
    inner_paths = [inner_path for key, item in node.items() for inner_path in mappings(item, (*path, key))]
    return inner_paths if path == ("variants",) else [path, *inner_paths]


@pytest.mark.parametrize("path", mappings(tree()), ids=lambda path: ".".join(map(str, path)))
def test_an_unknown_key_is_named_wherever_it_stands(path: tuple[Any, ...]) -> None:
    key = "kernel_sise_x"
    changed = tree()
    node = changed
    for part in path:
        node = node[part]
    node[key] = 1
    with pytest.raises(Failure, match=rf"{re.escape('.'.join(map(str, (*path, key))))} is an unknown key"):
        params.check(changed, "params.yaml")
