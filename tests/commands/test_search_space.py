"""What `--over` takes: ranges and choices, judged by the vocabulary of params.yaml."""

from __future__ import annotations

import pytest
from optuna.trial import FixedTrial

from car_or_truck import params
from car_or_truck.commands.search_space import Choices, Dimension, Range, parse, set_values, value_of
from car_or_truck.errors import Failure
from helpers.clones import ROOT

PARAMS = params.load(ROOT / "params.yaml")
LOW_TO_HIGH = "give KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A|B"


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("optimizer.learning_rate=1e-4:1e-2:log", Range("optimizer.learning_rate", 1e-4, 1e-2, True, False)),
        ("head.dropout=0:0.5", Range("head.dropout", 0, 0.5, False, False)),
        ("epochs=4:12", Range("epochs", 4, 12, False, True)),
        ("head.units=4:64:log", Range("head.units", 4, 64, True, True)),
        ("augment.rotate=0:20", Range("augment.rotate", 0, 20, False, False)),  # degrees need not be whole
        ("schedule.warm_up=0:0.5", Range("schedule.warm_up", 0, 0.5, False, False)),  # in a group that was left out
        ("blocks.2.filters=64:256", Range("blocks.2.filters", 64, 256, False, True)),
        ("schedule.name=cosine|one_cycle", Choices("schedule.name", ("cosine", "one_cycle"))),
        ("head.units=6 | [12, 6]", Choices("head.units", ("6", "[12, 6]"))),
        ("class_weight=null|balanced", Choices("class_weight", ("null", "balanced"))),
    ],
)
def test_a_range_or_choices_are_read(text: str, dimension: Dimension) -> None:
    assert parse([text], PARAMS, "tutorial") == [dimension]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("head.dropuot=0:0.5", "variants.tutorial.head.dropuot is an unknown key; did you mean 'dropout'?"),
        ("haed.dropout=0:0.5", "variants.tutorial.haed is an unknown key; did you mean 'head'?"),
        ("head.dropout=0:1.5", "variants.tutorial.head.dropout is 1.5: should be less than 1"),
        ("head.dropout=0.5:0", "the lower end 0.5 is not below the upper end 0"),
        ("head.dropout=0.1", LOW_TO_HIGH),
        ("head.dropout", LOW_TO_HIGH),
        ("=1:2", LOW_TO_HIGH),
        ("head.dropout=a:0.5", f"'a' is no number; {LOW_TO_HIGH}"),
        ("head.dropout=0:0.5:lin", LOW_TO_HIGH),
        ("l2=0:0.1:log", "the lower end of a logarithmic range is 0, but must be above 0"),
        ("epochs=2.5:4", "variants.tutorial.epochs is 2.5: should be a valid integer"),
        ("optimizer.learning_rate=0.1:inf", "variants.tutorial.optimizer.learning_rate is inf: should be a finite"),
        ("optimizer.momentum=0:0.9", "adam takes no momentum (0.0); it takes beta_1"),
        ("optimizer.name=adam|adm", "variants.tutorial.optimizer.name is 'adm': should be 'adam', 'adamw'"),
        ("epochs=2026-02-31|3", "variants.tutorial.epochs is '2026-02-31': should be a valid integer"),
        ("keep=last|last", "a choice is empty or given twice"),
        ("keep=last|", "a choice is empty or given twice"),
        ("blocks.7.filters=4:8", "'7' in blocks.7.filters should be the number of a list's item, 0 to 2"),
        ("blocks.filters=4:8", "'filters' in blocks.filters should be the number of a list's item, 0 to 2"),
        ("head.dropout.x=1:2", "head.dropout.x goes too deep: what stands before 'x' is the value 0.0"),
        ("image_size=8|64", "which pool 8 pixels (image_size) away to nothing"),
    ],
)
def test_what_no_variant_could_have_is_refused_with_the_way_out(text: str, says: str) -> None:
    variant = "four-blocks" if "image_size" in text else "tutorial"
    with pytest.raises(Failure) as caught:
        parse([text], PARAMS, variant)
    assert str(caught.value).startswith(f"--over {text}: ")
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_key_is_given_once() -> None:
    with pytest.raises(Failure, match="--over names epochs twice"):
        parse(["epochs=4:8", "epochs=4:12"], PARAMS, "tutorial")
    for over in (["head.dropout=0:0.5", "head={units: 6}|{units: 12}"], ["head.units=4:8", "head.units.0=9:16"]):
        for order in (over, over[::-1]):
            with pytest.raises(Failure, match=r"--over names head(\.units)? twice, the second time as head\."):
                parse(order, PARAMS, "tutorial")


def test_weights_that_are_not_there_are_refused_before_any_trial() -> None:
    params = set_values(PARAMS, "vgg16", {"base.weights": "here.h5", "base.sha256": 64 * "0"}, "here")
    with pytest.raises(Failure, match=r"base\.weights is 'nothing\.h5', which cannot be read"):
        parse(["base.weights=nothing.h5|here.h5"], params, "vgg16")


@pytest.mark.parametrize(
    ("text", "drawn", "value"),
    [
        ("optimizer.beta_2=0.999:0.9999", 0.999512345, 0.999512),
        ("optimizer.learning_rate=1e-4:1e-2:log", 0.00123456, 0.00123),
        ("head.dropout=0:0.5", 0.0, 0.0),
        ("augment.rotate=0:20", 12.3456, 12.3),
        ("optimizer.beta_2=0.999:0.9999", 0.9999, 0.9999),
    ],
)
def test_a_value_has_as_many_digits_as_its_range_needs(text: str, drawn: float, value: float) -> None:
    (dimension,) = parse([text], PARAMS, "tutorial")
    assert dimension.suggest(FixedTrial({dimension.key: drawn})) == value


def test_values_change_the_variant_and_nothing_else() -> None:
    changed = set_values(PARAMS, "sprint", {"loss.label_smoothing": 0.1, "blocks.0.filters": 16}, "here")
    sprint = changed.variants["sprint"]
    assert (sprint.loss.label_smoothing, sprint.blocks[0].filters) == (0.1, 16)
    back = set_values(changed, "sprint", {"loss.label_smoothing": 0.05, "blocks.0.filters": 32}, "here")
    assert back == PARAMS != changed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("head.dropout=0:0.5", 0.0),
        ("head.dropout=0.1:0.5", None),
        ("epochs=20:50", 40),
        ("schedule.name=cosine|constant", "constant"),  # the default
        ("schedule.name=cosine|one_cycle", None),
        ("head.units=[6]|[12, 6]", "[6]"),
        ("head.units=4|6", "6"),
        ("head.units=4:16", 6),
        ("head.dropout=0|0.5", "0"),
        ("early_stopping.patience=2:5", None),  # in a group that the variant does without
    ],
)
def test_the_variants_own_value_is_known_to_the_search_where_it_lies_inside(text: str, place: object) -> None:
    (dimension,) = parse([text], PARAMS, "tutorial")
    assert dimension.as_suggested(value_of(PARAMS, "tutorial", dimension.key)) == place
