from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch.stage import fetch
from car_or_truck.prepare import stage
from car_or_truck.prepare.audit import BAR
from car_or_truck.prepare.stage import prepare
from car_or_truck.train import batches
from helpers.sources import data


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("fetched") / "raw"
    fetch(data("rendered", rendered={"train": 12, "valid": 40}), raw)
    return raw


@pytest.fixture
def drawn_folder(fetched: Path, tmp_path: Path) -> Path:
    shutil.copytree(fetched, tmp_path / "raw")
    return tmp_path


@pytest.fixture
def folder(drawn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the figures of the audit, which take a second, are not drawn."""
    monkeypatch.setattr(stage, "draw", lambda *_: None)
    return drawn_folder


def run(folder: Path, **settings: Any) -> dict[str, Any]:
    return prepare(data("rendered", **settings), folder / "raw", folder / "prepared", folder / "audit")


def names(folder: Path, split: str) -> list[str]:
    return list(pd.read_csv(folder / "prepared" / split / "index.csv")["name"])


def test_the_arrays_hold_the_images_in_the_order_of_the_index(drawn_folder: Path) -> None:
    folder = drawn_folder
    audit = run(folder)
    for split, count in (("train", 12), ("valid", 40)):
        part = batches.load(folder / "prepared", split)
        index = pd.read_csv(folder / "prepared" / split / "index.csv")
        assert part.images.shape == (count, 128, 128, 3)
        assert part.images.dtype == part.labels.dtype == np.uint8
        assert isinstance(part.images, np.memmap)
        for image, label, row in zip(part.images, part.labels, index.itertuples(), strict=True):
            path = folder / "raw" / split / str(row.name)
            assert row.label == label == ["Car", "Truck"].index(path.parent.name)
            assert row.sha256 == files.sha256(path)
            assert np.array_equal(image, np.asarray(Image.open(path)))
    assert audit["excluded"] == audit["undecodable"] == audit["identical"] == audit["dropped"] == []
    source = json.loads((folder / "raw/SOURCE.json").read_text())
    assert audit["digest"] == audit["raw_digest"] == source["digest"]
    assert audit["sizes"] == {"128x128": 52}
    assert audit["modes"] == {"RGB": 52}
    figures = {path.name for path in (folder / "audit").glob("*.[ps][nv]g")}
    assert figures == {"train.png", "valid.png", "near_duplicates.png", "outliers.png", "splits.svg"}


def test_it_repeats_to_the_byte(drawn_folder: Path) -> None:
    folder = drawn_folder

    def contents() -> dict[str, str]:
        paths = [path for name in ("prepared", "audit") for path in (folder / name).rglob("*") if path.is_file()]
        return {str(path): files.sha256(path) for path in paths}

    run(folder)
    first = contents()
    run(folder)
    assert contents() == first


def test_the_measures_of_every_image_in_the_arrays_are_kept(folder: Path) -> None:
    run(folder, test_fraction=0.4)
    table = pd.read_csv(folder / "audit/measures.csv")
    for split, rows in table.groupby("split"):
        assert list(rows["name"]) == names(folder, str(split))
        for image, row in zip(batches.load(folder / "prepared", str(split)).images, rows.itertuples(), strict=True):
            inside = image[row.top : row.bottom, row.left : row.right]
            assert row.brightness == pytest.approx(inside.mean(), abs=1e-4)
            assert row.red - row.blue == pytest.approx(inside[..., 0].mean() - inside[..., 2].mean(), abs=2e-4)
            assert row.content == pytest.approx(inside.size / image.size, abs=1e-4)
            assert not image[: row.top].max(initial=0) > BAR
    assert set(table["split"]) == {"train", "valid", "test"}


def test_broken_files_are_listed_and_left_out(folder: Path) -> None:
    whole = run(folder)
    victims = sorted((folder / "raw/train/Car").iterdir())[:3]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:500])
    victims[2].write_text("text named .jpeg")
    audit = run(folder)
    assert [item["name"] for item in audit["undecodable"]] == [f"train/Car/{path.name}" for path in victims]
    assert all(item["reason"] for item in audit["undecodable"])
    assert audit["counts"]["train"]["Car"] == whole["counts"]["train"]["Car"] - 3
    assert audit["digest"] != whole["digest"]
    part = batches.load(folder / "prepared", "train")
    assert len(part.images) == len(part.labels) == 9
    pixels = np.load(folder / "prepared/train/images.npy")  # the shorter array is whole: read without a map too
    assert pixels.shape[0] == 9
    assert files.read_json(folder / "audit/audit.json", "") == audit


def test_a_class_left_empty_stops_it_and_the_arrays_before_stay(folder: Path) -> None:
    run(folder)
    for path in (folder / "raw/valid/Truck").iterdir():
        path.write_text("no picture")
    with pytest.raises(Failure, match=r"No image of Truck is left in validation .*: not an image"):
        run(folder)
    assert len(batches.load(folder / "prepared", "valid")) == 40
    assert sorted(path.name for path in folder.iterdir()) == ["audit", "prepared", "raw"]


def test_a_split_without_any_image_is_named(folder: Path) -> None:
    for path in (folder / "raw/valid").rglob("*.jpeg"):
        path.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(Failure, match=r"No image of Car is left in validation .*: not an image\)"):
        run(folder)


@pytest.mark.parametrize("broken", ["car_or_truck.files.sha256", "pathlib.Path.read_bytes"])
def test_a_file_that_cannot_be_read_is_no_damaged_image(
    broken: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(broken, fail)
    with pytest.raises(Failure, match=r"Input/output error"):
        run(folder)


def exclude(folder: Path, *names: str) -> str:
    """Write a file for data.exclude; returns its path."""
    path = folder / "exclude.csv"
    path.write_text("".join(["name,reason\n", *(f"{name},by hand\n" for name in names)]))
    return str(path)


def test_excluded_images_are_in_no_array_and_stand_in_the_audit_with_their_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(folder)
    index = {split: names(folder, split) for split in ("train", "valid")}
    excluded = [f"valid/{index['valid'][3]}", f"train/{index['train'][0]}"]
    (folder / "raw" / excluded[1]).write_text("no picture")  # it is not even opened
    audit = run(folder, exclude=exclude(folder, *excluded))
    assert audit["excluded"] == [{"name": name, "reason": "by hand"} for name in excluded]
    assert "Audit: 2 excluded by data.exclude" in " ".join(capsys.readouterr().err.split())
    assert audit["undecodable"] == []
    assert audit["digest"] != whole["digest"]
    assert audit["raw_digest"] == whole["raw_digest"]
    for split, count in (("train", 11), ("valid", 39)):
        kept_names = [name for name in index[split] if f"{split}/{name}" not in excluded]
        assert names(folder, split) == kept_names
        assert len(batches.load(folder / "prepared", split).images) == sum(audit["counts"][split].values()) == count


def test_the_stand_in_takes_the_place_of_photographs_that_are_excluded(folder: Path) -> None:
    path = exclude(folder, "valid/Car/photograph.jpeg")
    assert run(folder, exclude=path)["excluded"] == []
    source = folder / "raw/SOURCE.json"
    source.write_text(json.dumps(json.loads(source.read_text()) | {"stand_in": False}))
    with pytest.raises(Failure, match="there is no image"):
        run(folder, exclude=path)


def test_a_class_that_is_excluded_as_a_whole_stops_it(folder: Path) -> None:
    trucks = [f"valid/Truck/{path.name}" for path in (folder / "raw/valid/Truck").iterdir()]
    says = r"No image of Truck is left in validation \(left out: valid/Truck/.*: by hand\). .* or change data.exclude,"
    with pytest.raises(Failure, match=says):
        run(folder, exclude=exclude(folder, *trucks))
    run(folder, test_fraction=0.4)
    trucks = [f"valid/{name}" for name in names(folder, "test") if "Truck" in name]
    with pytest.raises(Failure, match=r"No image of Truck is left in test \(left out: valid/Truck/.*: by hand\)"):
        run(folder, exclude=exclude(folder, *trucks), test_fraction=0.4)


@pytest.fixture
def leaky(folder: Path) -> Path:
    """One valid image stands in train too, another in train under the wrong class."""
    valid = sorted((folder / "raw/valid/Car").iterdir())
    shutil.copyfile(valid[0], folder / "raw/train/Car/leak.jpeg")
    shutil.copyfile(valid[1], folder / "raw/train/Truck/wrong.jpeg")
    return folder


def test_train_images_that_are_also_in_valid_are_dropped(leaky: Path) -> None:
    audit = run(leaky)
    assert audit["dropped"] == ["train/Car/leak.jpeg", "train/Truck/wrong.jpeg"]
    assert len(audit["leaks"]) == len(audit["identical"]) == 2
    assert audit["conflicts"] == [["train/Truck/wrong.jpeg", "valid/Car/" + audit["conflicts"][0][1].split("/")[-1]]]
    assert len(batches.load(leaky / "prepared", "train")) == 12
    assert "Car/leak.jpeg" not in names(leaky, "train")


def test_a_class_that_is_all_leaks_is_named_with_the_cause(leaky: Path) -> None:
    for path in (leaky / "raw/train/Truck").iterdir():
        shutil.copyfile(leaky / "raw/train/Car/leak.jpeg", path)
    with pytest.raises(Failure, match=r"No image of Truck is left .*: also in validation, data\.leaks: drop\)"):
        run(leaky)


def test_of_several_copies_each_one_in_train_is_a_leak(leaky: Path) -> None:
    shutil.copyfile(leaky / "raw/train/Car/leak.jpeg", leaky / "raw/train/Car/again.jpeg")
    audit = run(leaky)
    assert [pair[0] for pair in audit["leaks"]] == audit["dropped"]
    assert audit["dropped"] == ["train/Car/again.jpeg", "train/Car/leak.jpeg", "train/Truck/wrong.jpeg"]
    assert len(audit["identical"]) == 3


def test_leaks_are_kept_or_fatal_when_asked_for(leaky: Path) -> None:
    audit = run(leaky, leaks="keep")
    assert audit["dropped"] == []
    assert len(audit["leaks"]) == 2
    assert "Car/leak.jpeg" in names(leaky, "train")
    with pytest.raises(
        Failure, match=r"2 training images are also in the validation set \(the first: train/Car/leak.jpeg\)"
    ):
        run(leaky, leaks="fail")


def test_excluding_one_of_two_identical_images_settles_the_leak(leaky: Path) -> None:
    names = exclude(leaky, "train/Car/leak.jpeg", "train/Truck/wrong.jpeg")
    audit = run(leaky, leaks="fail", exclude=names)
    assert audit["identical"] == audit["leaks"] == audit["conflicts"] == audit["dropped"] == []
    assert len(batches.load(leaky / "prepared", "train")) == 12


def test_a_share_of_valid_is_set_apart_by_content(folder: Path) -> None:
    run(folder)
    everything = names(folder, "valid")
    counts = run(folder, test_fraction=0.4)["counts"]
    assert set(counts) == {"train", "valid", "test"}
    apart = names(folder, "test")
    assert sorted(apart + names(folder, "valid")) == sorted(everything)
    assert 6 <= len(apart) <= 26
    victim = folder / "raw/valid" / everything[0]
    victim.rename(victim.with_name("renamed.jpeg"))  # the content decides, not the name
    run(folder, test_fraction=0.4)
    renamed = str(Path(everything[0]).with_name("renamed.jpeg"))
    assert (renamed in names(folder, "test")) == (everything[0] in apart)


def test_other_sizes_are_letterboxed_and_counted(folder: Path) -> None:
    for name, level in (("grey", 200), ("white", 255)):
        Image.new("L", (200, 100), level).save(folder / f"raw/train/Car/{name}.png")
    audit = run(folder, image_size=48)
    assert batches.load(folder / "prepared", "train").images.shape == (14, 48, 48, 3)
    assert audit["sizes"] == {"128x128": 52, "200x100": 2}
    assert audit["modes"] == {"RGB": 52, "L": 2}
    assert audit["constant"] == ["train/Car/grey.png", "train/Car/white.png"]
    assert not {"train/Car/grey.png", "train/Car/white.png"} & {
        name for *pair, _ in audit["near_duplicates"] for name in pair
    }


def named_in_bytes(folder: Path, name: bytes) -> None:
    shutil.copyfile(folder / "raw/train/Car/00000.jpeg", os.fsencode(folder / "raw/train/Car") + b"/" + name)


def test_a_name_that_no_table_can_hold_is_listed_and_left_out(folder: Path) -> None:
    whole = run(folder)
    named_in_bytes(folder, b"caf\xe9.jpeg")
    named_in_bytes(folder, b"two\nlines.jpeg")
    audit = run(folder)
    reason = "its name is not UTF-8, or has control characters"
    expected = [f"train/Car/{name}.jpeg" for name in ("caf%E9", "two%0Alines")]
    assert audit["undecodable"] == [{"name": name, "reason": reason} for name in expected]
    assert (audit["digest"], audit["counts"]) == (whole["digest"], whole["counts"])
    assert json.loads((folder / "audit/audit.json").read_text("utf-8")) == audit
    assert all(name.isascii() for name in names(folder, "train"))


def test_a_name_may_mean_something_to_a_figure_a_table_or_the_console(drawn_folder: Path) -> None:
    folder = drawn_folder
    odd = ['"a"b.jpeg', "$a^{b.jpeg", "[red]a[.jpeg", "a_$x$_,b.jpeg", "トラック.jpeg"]
    with Image.open(folder / "raw/train/Car/00000.jpeg") as image:
        for place, name in enumerate(odd):  # near-duplicates, so that their names are drawn
            ImageEnhance.Brightness(image).enhance(1.02 + place / 100).save(folder / "raw/train/Car" / name)
            (folder / "raw/train/Car" / f"0{name}").write_text("no image")
    audit = run(folder)
    assert {f"train/Car/{name}" for name in odd} <= {name for *pair, _ in audit["near_duplicates"] for name in pair}
    assert [item["name"] for item in audit["undecodable"]] == [f"train/Car/0{name}" for name in odd]
    assert {f"Car/{name}" for name in odd} <= set(names(folder, "train"))


def test_damaged_images_of_any_kind_never_stop_the_stage(drawn_folder: Path) -> None:
    folder = drawn_folder
    train = folder / "raw/train/Car"
    image = Image.open(train / "00000.jpeg")
    image.save(train / "a.jpg", "avif")
    content = (train / "a.jpg").read_bytes()
    (train / "a.jpg").write_bytes(content[:-400] + b"\xff\0" * 200)
    Image.new("1", (9000, 9000)).save(train / "b.jpg", "tiff", compression="group4")
    image.save(train / "c.jpg", "eps")
    Image.fromarray(np.full((128, 128), np.nan, np.float32)).save(train / "d.jpg", "tiff")
    audit = run(folder)
    assert [Path(item["name"]).name for item in audit["undecodable"]] == ["a.jpg", "b.jpg", "c.jpg"]
    assert audit["constant"] == audit["dark"] == ["train/Car/d.jpg"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"classes": ["Car", "Truck"]}', "3"])
def test_a_record_that_fetch_did_not_write_is_refused(content: str, folder: Path) -> None:
    (folder / "raw/SOURCE.json").write_text(content)
    with pytest.raises(Failure, match=r"SOURCE.json is not what fetch writes. Run `make data`"):
        run(folder)


def test_other_classes_than_those_fetched_are_refused(folder: Path) -> None:
    with pytest.raises(Failure, match=r"holds \['Car', 'Truck'\], not data.classes. Run `make data`"):
        run(folder, classes=["Cat", "Dog"])


def test_torn_arrays_are_noticed(folder: Path) -> None:
    run(folder)
    path = folder / "prepared/train/images.npy"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(Failure, match=r"prepared/train cannot be read"):
        batches.load(folder / "prepared", "train")


def test_without_fetched_images_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"SOURCE.json cannot be read .* Run `make data`"):
        run(tmp_path)
