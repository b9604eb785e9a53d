from __future__ import annotations

from pathlib import Path

import pytest

from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from helpers.clones import photos

CLASSES = ("Car", "Truck")


def test_images_and_other_files_are_counted(tmp_path: Path) -> None:
    photos(tmp_path)
    (tmp_path / "train/Car/.hidden.jpg").write_bytes(b"")
    (tmp_path / "train/Car/notes.txt").write_bytes(b"")
    (tmp_path / "train/Car/folder.jpg").mkdir()
    (tmp_path / "train/Bus").mkdir()
    (tmp_path / "train/Bus/a.jpg").write_bytes(b"")
    (tmp_path / "valid/stray.jpg").write_bytes(b"")
    (tmp_path / "train/Truck/more").symlink_to(tmp_path / "train/Car")
    (tmp_path / "train/Truck/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert folders.count_images(tmp_path, CLASSES, "it") == {split: {"Car": 1, "Truck": 1} for split in folders.SPLITS}
    assert folders.count_others(tmp_path, CLASSES) == {
        "train/Bus/": 1,
        "train/Car/": 2,
        "train/Truck/": 2,
        "valid/": 1,
    }


def test_names_in_any_script_and_depth_are_listed_in_a_fixed_order(tmp_path: Path) -> None:
    photos(tmp_path)
    names = ["ein Käfer.JPG", "トラック.png", "b/c/deep.webp", "a b.gif", "Z.Bmp"]
    for name in names:
        path = tmp_path / "train/Car" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    listed = [
        str(name) for split, label, name in folders.list_images(tmp_path, CLASSES) if (split, label) == ("train", 0)
    ]
    assert listed == sorted((f"Car/{name}" for name in [*names, "a.JPEG"]), key=lambda name: name.encode())


def test_a_missing_or_empty_folder_is_named_with_the_likely_slip(tmp_path: Path) -> None:
    photos(tmp_path, "valid/Truck")
    with pytest.raises(Failure, match=r"photos has no image in valid/Truck/"):
        folders.count_images(tmp_path, CLASSES, "photos")
    (tmp_path / "valid/Truck").rename(tmp_path / "valid/Trucks")
    with pytest.raises(
        Failure, match=r"photos has no folder valid/Truck/.* Is it Trucks/\? valid holds: Car/, Trucks/"
    ):
        folders.count_images(tmp_path, CLASSES, "photos")
    (tmp_path / "valid").rename(tmp_path / "vaild")
    with pytest.raises(Failure, match=r"photos has no folder valid/.* Is it vaild/\? it holds: train/, vaild/"):
        folders.count_images(tmp_path, CLASSES, "photos")


@pytest.mark.parametrize("nested", [".", "a", "a/b c/d"])
def test_the_root_is_found_wherever_it_is_nested(nested: str, tmp_path: Path) -> None:
    photos(tmp_path / nested)
    photos(tmp_path / "__MACOSX")
    assert folders.find_root(tmp_path, CLASSES, "it") == (tmp_path / nested, folders.SPLITS)


def test_the_root_is_where_the_classes_are(tmp_path: Path) -> None:
    photos(tmp_path / "images")
    for split in folders.SPLITS:
        (tmp_path / "annotations" / split).mkdir(parents=True)
    assert folders.find_root(tmp_path, CLASSES, "it") == (tmp_path / "images", folders.SPLITS)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    photos(tmp_path / "whole", classes=("train", "bus"))
    assert folders.find_root(tmp_path / "whole", ("train", "bus"), "it") == (tmp_path / "whole", folders.SPLITS)
    (tmp_path / "whole/train").rename(tmp_path / "one")
    assert folders.find_root(tmp_path / "one", ("train", "bus"), "it") == (tmp_path / "one", ("",))


def test_a_folder_train_without_the_classes_does_not_hide_them(tmp_path: Path) -> None:
    photos(tmp_path / "both")
    (tmp_path / "both/train").rename(tmp_path / "images")
    for split in folders.SPLITS:
        (tmp_path / "images/runs" / split).mkdir(parents=True)
    assert folders.find_root(tmp_path / "images", CLASSES, "it") == (tmp_path / "images", ("",))


def test_splits_inside_of_the_classes_are_not_mixed(tmp_path: Path) -> None:
    for name in CLASSES:
        for split in folders.SPLITS:
            (tmp_path / name / split).mkdir(parents=True)
    root, splits = folders.find_root(tmp_path, CLASSES, "it")
    with pytest.raises(Failure, match=r"it has no folder "):
        folders.count_images(root, CLASSES, "it", splits)


def test_a_misspelt_class_of_train_does_not_make_validation_the_root(tmp_path: Path) -> None:
    photos(tmp_path)
    for name in CLASSES:
        (tmp_path / "train" / name).rename(tmp_path / "train" / f"{name}s")
    assert folders.find_root(tmp_path, CLASSES, "it") == (tmp_path, folders.SPLITS)


def test_folders_without_splits_are_found_and_others_refused(tmp_path: Path) -> None:
    photos(tmp_path)
    assert folders.find_root(tmp_path / "train", CLASSES, "it") == (tmp_path / "train", ("",))
    with pytest.raises(Failure, match=r"neither the folders train/ and valid/ nor Cat/ and Dog/"):
        folders.find_root(tmp_path / "train", ("Cat", "Dog"), "it")
