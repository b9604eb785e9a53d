from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from car_or_truck import batches, files, images, params
from car_or_truck.errors import Failure
from car_or_truck.fetch import fetch
from car_or_truck.prepare import prepare
from clones import ROOT


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("fetched") / "raw"
    shipped = params.load(ROOT / "params.yaml").data.model_dump()
    settings = shipped | {"sources": ["rendered"], "rendered": {"train": 12, "valid": 8, "seed": 1}}
    fetch(params.Data.model_validate(settings), raw)
    return raw


@pytest.fixture
def folder(fetched: Path, tmp_path: Path) -> Path:
    shutil.copytree(fetched, tmp_path / "raw")
    return tmp_path


def run(folder: Path, size: int = 128) -> dict:  # type: ignore[type-arg]
    return prepare(size, folder / "raw", folder / "prepared", folder / "audit")


def test_the_arrays_hold_the_images_in_the_order_of_the_index(folder: Path) -> None:
    audit = run(folder)
    for split, count in (("train", 12), ("valid", 8)):
        part = batches.load(folder / "prepared", split)
        index = pd.read_csv(folder / "prepared" / split / "index.csv")
        assert part.images.shape == (count, 128, 128, 3)
        assert part.images.dtype == part.labels.dtype == np.uint8
        assert isinstance(part.images, np.memmap)
        for image, label, row in zip(part.images, part.labels, index.itertuples(), strict=True):
            path = folder / "raw" / split / str(row.name)
            assert row.label == label == images.CLASSES.index(path.parent.name)
            assert row.sha256 == files.sha256(path)
            assert np.array_equal(image, np.asarray(Image.open(path)))
    assert audit["undecodable"] == []
    assert audit["digest"] == files.read_json(folder / "raw/SOURCE.json", "")["digest"]


def test_broken_files_are_listed_and_left_out(folder: Path) -> None:
    whole = run(folder)
    victims = sorted((folder / "raw/train/Car").iterdir())[:2]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:500])
    audit = run(folder)
    assert [item["name"] for item in audit["undecodable"]] == [f"train/Car/{path.name}" for path in victims]
    assert all(item["reason"] for item in audit["undecodable"])
    assert audit["counts"]["train"]["Car"] == whole["counts"]["train"]["Car"] - 2
    assert audit["digest"] != whole["digest"]
    part = batches.load(folder / "prepared", "train")
    assert len(part.images) == len(part.labels) == 10
    kept = np.load(folder / "prepared/train/images.npy")  # the shorter array is whole: read without a map too
    assert kept.shape[0] == 10
    assert files.read_json(folder / "audit/audit.json", "") == audit


def test_a_class_left_empty_stops_it_and_the_arrays_before_stay(folder: Path) -> None:
    run(folder)
    for path in (folder / "raw/valid/Truck").iterdir():
        path.write_text("no picture")
    with pytest.raises(Failure, match=r"No image in .*raw/valid/Truck/ can be decoded .*not an image"):
        run(folder)
    assert len(batches.load(folder / "prepared", "valid")) == 8
    assert sorted(path.name for path in folder.iterdir()) == ["audit", "prepared", "raw"]


def test_another_size_is_letterboxed(folder: Path) -> None:
    run(folder, 48)
    assert batches.load(folder / "prepared", "train").images.shape == (12, 48, 48, 3)


def test_torn_arrays_are_noticed(folder: Path) -> None:
    run(folder)
    path = folder / "prepared/train/images.npy"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(Failure, match=r"prepared/train cannot be read"):
        batches.load(folder / "prepared", "train")


def test_without_fetched_images_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"SOURCE.json cannot be read .* Run `make data`"):
        run(tmp_path)
