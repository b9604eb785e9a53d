"""A cell's flat parameters, as MLflow, the report and the ablations show them."""

from __future__ import annotations

import pytest

from car_or_truck.cells import names
from helpers.cells import cell, dataset
from helpers.nets import VARIANTS, recipe


def test_parameters_are_what_the_recipe_sets_and_what_all_cells_share() -> None:
    assert names.parameters(cell(recipe=VARIANTS["exercise"])) == {
        "recipe.blocks": "32 of 3x3; 64 of 3x3; 2x 128 of 3x3",
        "recipe.head.units": "6",
        "recipe.head.dropout": 0.2,
        "recipe.optimizer.name": "adam",
        "recipe.optimizer.learning_rate": 0.0001,
        "recipe.epochs": 50,
        "recipe.shuffle": "once",
        "recipe.keep": "last",
        "train.batch_size": 16,
        "data.image_size": 32,
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_is_one_flattening_with_or_without_defaults(variant: str) -> None:
    chosen = VARIANTS[variant]
    short, whole = names.flat(chosen), names.flat(chosen, defaults=True)
    assert short.items() <= whole.items()
    assert {"shuffle", "keep"} <= set(short)
    plain = names.flat(recipe(head={}, base={"application": "VGG16"}, blocks=[]), defaults=True)
    for key in set(whole) - set(short):  # what is left out is at its default
        assert whole[key] == plain[key]


def test_a_base_with_random_weights_is_told_from_a_pretrained_one() -> None:
    base = {"application": "VGG16"}
    random, pretrained = (
        names.flat(recipe(base=base | weights)) for weights in ({"weights": None}, {"weights": "imagenet"})
    )
    assert random != pretrained


def test_a_block_is_told_in_a_few_words() -> None:
    block = {"filters": 128, "convs": 2, "kernel_size": 5, "batch_norm": True, "pool": "none", "strides": 2}
    (parsed_block,) = recipe(blocks=[block]).blocks
    assert names.block_text(parsed_block) == "2x 128 of 5x5, strides 2, batch_norm, pool none"
    assert names.block_text(recipe().blocks[0]) == "4 of 3x3"


def test_tags_hold_the_fingerprint_and_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@plain-7")
    monkeypatch.setenv("DVC_EXP_NAME", "")
    plain_cell = cell()
    tags = names.tags(plain_cell)
    expected = {
        "cell": plain_cell.fingerprint,
        "variant": "plain",
        "seed": "7",
        "precision": "float32",
        "data.source": "archive",
        "data.digest": "d" * 64,
        "dvc.stage": "train@plain-7",
    }
    assert expected.items() <= tags.items()
    assert "dvc.exp" not in tags


def test_synthetic_images_have_names_of_their_own() -> None:
    real, drawn = (names.experiment_name(cell(images=dataset(stand_in=flag)).stand_in) for flag in (False, True))
    assert (real, drawn) == ("car-or-truck", "car-or-truck-rendered")
    assert names.promotions_name(drawn) == "car-or-truck-rendered-promotions"
