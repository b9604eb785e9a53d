from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from car_or_truck.fetch.stage import fetch
from helpers.clones import ROOT, photos
from helpers.sources import data, nothing_was_written, served, zipped


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw"


def test_rendered_images_come_with_a_record_of_what_they_are(raw: Path) -> None:
    record = fetch(data("rendered"), raw)
    assert record == files.read_json(raw / "SOURCE.json", "")
    assert (record["source"], record["stand_in"], record["images"]) == ("rendered", True, 16)
    assert record["counts"] == folders.count_images(raw, ("Car", "Truck"), "raw")
    listed = list(raw.rglob("*.jpeg"))
    digest = files.content_digest((str(path.relative_to(raw)), files.sha256(path)) for path in listed)
    assert record["digest"] == digest


def test_an_archive_is_unpacked_wherever_its_folders_are_nested(raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip", "a/b/")
    settings = {"url": str(path), "sha256": files.sha256(path).upper()}
    assert fetch(data("archive", archive=settings), raw)["images"] == 4
    assert sorted(item.name for item in raw.iterdir()) == ["SOURCE.json", "train", "valid"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_unpacked_whatever_its_compression(mode: Any, raw: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as archive:
        archive.add(photos(tmp_path / "photos"), "photos")
    assert fetch(data("archive", archive={"url": str(tmp_path / "a.tar")}), raw)["images"] == 4


def test_a_wrong_checksum_is_an_error_and_no_reason_to_fall_back(raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    with pytest.raises(Failure, match=f"data.archive.sha256 is {'0' * 64}, but .* has {files.sha256(path)}"):
        fetch(data("archive", "rendered", archive={"url": str(path), "sha256": "0" * 64}), raw)
    assert nothing_was_written(raw)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.999])
def test_a_truncated_archive_is_an_error(keep: float, raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(Failure, match=r"a\.zip is not a complete zip or tar archive"):
        fetch(data("archive", "rendered", archive={"url": str(path)}), raw)
    assert nothing_was_written(raw)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize(
    ("form", "damage"), [(form, damage) for form in PACKED for damage in ("cut", "header", "end")[: 3 if form else 2]]
)
def test_a_damaged_tar_is_an_error_and_not_a_part_of_one(form: str, damage: str, raw: Path, tmp_path: Path) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.add(photos(tmp_path / "photos"), "photos")
        last = archive.getmembers()[-1]
    content = bytearray(plain.getvalue())
    if damage == "cut":
        del content[last.offset :]  # between two files
    if damage == "header":
        content[last.offset + 10] ^= 1
    path = tmp_path / "a.tar"
    packed = PACKED[form](bytes(content))
    path.write_bytes(packed[:-6] if damage == "end" else packed)  # of its checksum
    with pytest.raises(Failure, match=r"a\.tar is not a complete zip or tar archive"):
        fetch(data("archive", archive={"url": str(path)}), raw)
    assert nothing_was_written(raw)


def test_a_tar_that_ends_with_a_zip_is_a_tar(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    zipped(photos(tmp_path / "old"), folder / "zz.zip")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder, "photos", filter=lambda member: None if member.name.endswith(".zip") else member)
        archive.add(folder / "zz.zip", "zz.zip")
    assert zipfile.is_zipfile(tmp_path / "a.tar")
    fetch(data("archive", archive={"url": str(tmp_path / "a.tar")}), raw)
    assert (raw / "train/Car/a.JPEG").read_bytes() == (folder / "train/Car/a.JPEG").read_bytes()


@pytest.mark.parametrize("place", [*range(0, 700, 35), 1500, 4000, 9000])  # its directory is at the end
def test_a_zip_with_a_wrong_byte_is_unpacked_whole_or_refused(place: int, raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    path = zipped(folder, tmp_path / "a.zip")
    spoiled = bytearray(path.read_bytes())
    spoiled[-1 - place] ^= 0xA5
    path.write_bytes(spoiled)
    with suppress(Failure):
        fetch(data("archive", archive={"url": str(path)}), raw)
        for split in ("train", "valid"):
            assert content(raw / split) == content(folder / split)
        return
    assert nothing_was_written(raw)


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/tmp/evil.jpg", "train/../../evil.jpg", "C:/evil.jpg", "..\\evil.jpg"]
)
def test_an_entry_that_points_outside_the_archive_is_refused(name: str, raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    with pytest.raises(Failure, match="points outside"):
        fetch(data("archive", archive={"url": str(path)}), raw)
    assert nothing_was_written(raw)


def test_a_link_in_a_tar_is_refused(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "train/Car/b.jpg").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder, "photos")
    with pytest.raises(Failure, match="neither a file nor a folder; `tar --dereference --hard-dereference`"):
        fetch(data("archive", archive={"url": str(tmp_path / "a.tar")}), raw)


def test_a_link_in_a_zip_is_refused(raw: Path, tmp_path: Path) -> None:
    path, link = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip"), zipfile.ZipInfo("train/Car/b.jpg")
    link.create_system, link.external_attr = 3, 0o120777 << 16  # as Info-ZIP writes it on Unix
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Failure, match=r"'train/Car/b\.jpg' is a link"):
        fetch(data("archive", archive={"url": str(path)}), raw)
    assert nothing_was_written(raw)


def test_a_zip_with_a_password_is_named(raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # of each entry: it is encrypted
        place = content.find(mark)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(mark, place + 1)
    path.write_bytes(content)
    with pytest.raises(Failure, match=r"a\.zip cannot be unpacked: .*password required"):
        fetch(data("archive", archive={"url": str(path)}), raw)
    assert nothing_was_written(raw)


def test_a_missing_split_or_class_is_an_error(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    shutil.rmtree(folder / "valid")
    with pytest.raises(Failure, match="has no folder valid/"):
        fetch(data("directory", "rendered", directory={"path": str(folder)}), raw)
    photos(tmp_path / "emptied", "train/Truck")
    with pytest.raises(Failure, match="has no image in train/Truck/"):
        fetch(data("directory", "rendered", directory={"path": str(tmp_path / "emptied")}), raw)
    assert nothing_was_written(raw)


def test_falling_back_to_synthetic_images_is_loud(raw: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = {"archive": {"url": "/nowhere/a.zip"}, "directory": {"path": "~nobody-of-that-name/photos"}}
    record = fetch(data("archive", "directory", "rendered", **missing), raw)
    assert (record["source"], record["unreached"]) == ("rendered", ["archive", "directory"])
    console = capfd.readouterr().err
    assert "there is no file /nowhere/a.zip" in console
    assert "there is no folder ~nobody-of-that-name/photos" in console
    assert "not the real data" in console
    assert "SYNTHETIC IMAGES" in console
    assert "make data" in console


def test_when_nothing_can_be_reached_the_way_out_is_named(raw: Path) -> None:
    with pytest.raises(Failure, match=r"None of data.sources \(directory\) can be reached"):
        fetch(data("directory", directory={"path": "/nowhere"}), raw)
    assert nothing_was_written(raw)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_fetched_before_are_kept_while_their_source_is_unreachable(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    settings = data("directory", "rendered", directory={"path": str(folder)})
    first = fetch(settings, raw)
    folder.rename(tmp_path / "unplugged")
    assert fetch(settings, raw) == first
    (tmp_path / "unplugged").rename(folder)
    assert fetch(settings, raw) == first


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": ["Truck", "Car"]},
        {"valid_fraction": 0.3},
        {"directory": {"path": "/nowhere/else"}},
    ],
    ids=str,
)
def test_real_images_are_never_replaced_by_synthetic_ones_because_the_settings_changed_offline(
    changed: dict[str, Any], raw: Path, tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos")
    fetch(data("directory", directory={"path": str(folder)}), raw)
    before = content(raw)
    folder.rename(tmp_path / "unplugged")
    settings = data("directory", "rendered", **{"directory": {"path": str(folder)}, **changed})
    with pytest.raises(Failure) as caught:
        fetch(settings, raw)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Out of reach: directory. ")
    assert f"{raw} holds 4 images of directory, fetched with other settings, and is left as it is." in lines[0]
    assert "`make data`" in lines[1]
    assert "list only `rendered` in data.sources" in lines[1]
    assert content(raw) == before


def test_real_images_of_another_source_are_not_replaced_by_synthetic_ones(raw: Path, tmp_path: Path) -> None:
    fetch(data("directory", directory={"path": str(photos(tmp_path / "photos"))}), raw)
    before = content(raw)
    with pytest.raises(Failure, match=r"Out of reach: archive\. .* holds 4 images of directory, and is left as it is"):
        fetch(data("archive", "rendered", archive={"url": "/nowhere/a.zip"}), raw)
    assert content(raw) == before


def test_real_images_changed_by_hand_are_not_replaced_by_synthetic_ones(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    settings = data("directory", "rendered", directory={"path": str(folder)})
    fetch(settings, raw)
    folder.rename(tmp_path / "unplugged")
    (raw / "train/Car/a.JPEG").write_bytes(b"changed by hand")
    with pytest.raises(Failure, match=r"files that `fetch` did not put there \(train/Car/a\.JPEG\)"):
        fetch(settings, raw)
    assert (raw / "train/Car/a.JPEG").read_bytes() == b"changed by hand"
    (raw / "train/Car/a.JPEG").unlink()
    with pytest.raises(Failure, match="4 images of directory, changed since they were fetched, and is left as it is"):
        fetch(settings, raw)
    assert len(folders.images_below(raw)) == 3


def test_synthetic_images_replace_real_ones_when_params_yaml_names_them_alone(raw: Path, tmp_path: Path) -> None:
    fetch(data("directory", directory={"path": str(photos(tmp_path / "photos"))}), raw)
    assert fetch(data("rendered"), raw)["stand_in"]
    assert fetch(data("directory", "rendered", directory={"path": "/nowhere"}), raw)["unreached"] == ["directory"]


def test_an_archive_is_downloaded(raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    with served(tmp_path) as url:
        record = fetch(data("archive", archive={"url": f"{url}/a.zip", "sha256": files.sha256(path)}), raw)
        assert record["images"] == 4
        with pytest.raises(Failure, match=r"There is nothing at .*/b\.zip"):
            fetch(data("archive", "rendered", archive={"url": f"{url}/b.zip"}), raw)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_out_of_reach(status: int, raw: Path, tmp_path: Path) -> None:
    with served(tmp_path, status) as url:
        assert fetch(data("archive", "rendered", archive={"url": f"{url}/a.zip"}), raw)["source"] == "rendered"


def test_a_server_that_refuses_is_an_error(raw: Path, tmp_path: Path) -> None:
    with served(tmp_path, 403) as url, pytest.raises(Failure, match="answers 403"):
        fetch(data("archive", "rendered", archive={"url": f"{url}/a.zip"}), raw)


def test_a_dead_server_is_out_of_reach(raw: Path, closed_port: int) -> None:
    settings = data("archive", "rendered", archive={"url": f"http://127.0.0.1:{closed_port}/a.zip"})
    assert fetch(settings, raw)["source"] == "rendered"


def test_a_users_own_classes_and_nested_names_are_kept(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "pets", classes=("Cat", "Dog"))
    (folder / "train/Cat/kitten é").mkdir()
    (folder / "train/Cat/a.JPEG").rename(folder / "train/Cat/kitten é/a b.JPEG")
    record = fetch(data("directory", directory={"path": str(folder)}, classes=["Cat", "Dog"]), raw)
    assert record["counts"]["train"] == {"Cat": 1, "Dog": 1}
    assert (raw / "train/Cat/kitten é/a b.JPEG").is_file()


def test_a_folders_files_are_copied_and_of_links_what_they_name(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "elsewhere.jpg").write_bytes((folder / "train/Car/a.JPEG").read_bytes())
    (folder / "train/Car/b.jpg").symlink_to("../../elsewhere.jpg")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)  # a source that cannot be written
    assert not fetch(data("directory", directory={"path": str(folder)}), raw)["stand_in"]
    assert not (raw / "train/Car/a.JPEG").samefile(folder / "train/Car/a.JPEG")
    assert (raw / "train/Car/a.JPEG").read_bytes() == (folder / "train/Car/a.JPEG").read_bytes()
    assert not (raw / "train/Car/b.jpg").is_symlink()
    assert (raw / "train/Car/b.jpg").read_bytes() == (folder / "elsewhere.jpg").read_bytes()


@pytest.mark.parametrize("order", [["rendered"], ["directory"], ["kaggle", "rendered"]])
def test_images_that_a_person_put_there_are_not_replaced(order: list[str], raw: Path, tmp_path: Path) -> None:
    photos(raw)
    with pytest.raises(Failure, match=r"data/raw holds files that `fetch` did not put there.* data\.directory\.path"):
        fetch(data(*order, directory={"path": str(photos(tmp_path / "photos"))}), raw)
    assert (raw / "train/Car/a.JPEG").is_file()


@pytest.mark.parametrize("name", ["train/Car/mine.JPEG", "train/Car/mine.heic", "notes.txt"])
def test_what_a_person_added_to_what_was_fetched_is_not_removed(name: str, raw: Path, tmp_path: Path) -> None:
    settings = data("directory", directory={"path": str(photos(tmp_path / "photos"))})
    fetch(settings, raw)
    fetch(settings, raw)
    (raw / name).write_bytes((raw / "train/Car/a.JPEG").read_bytes())
    with pytest.raises(Failure, match=r"data/raw holds files that `fetch` did not put there"):
        fetch(settings, raw)
    assert (raw / name).is_file()


def test_what_a_person_put_in_place_of_what_was_fetched_is_not_removed(raw: Path, tmp_path: Path) -> None:
    fetch(data("rendered"), raw)
    (raw / "train/Car/00000.jpeg").write_bytes(b"retouched")  # as many files, with the same names
    with pytest.raises(Failure, match=r"files that `fetch` did not put there \(train/Car/00000\.jpeg\)"):
        fetch(data("rendered"), raw)
    for split in ("train", "valid"):
        shutil.rmtree(raw / split)
    photos(raw)  # fewer files
    with pytest.raises(Failure, match=r"files that `fetch` did not put there \(train/Car/a\.JPEG and 3 more\)"):
        fetch(data("rendered"), raw)
    assert (raw / "train/Car/a.JPEG").is_file()


def test_images_fetched_before_there_were_checksums_are_fetched_again(raw: Path) -> None:
    record = fetch(data("rendered"), raw)
    files.write_json(raw / "SOURCE.json", {key: value for key, value in record.items() if key != "sha256"})
    assert fetch(data("rendered"), raw) == record
    (raw / "train/Car/00000.jpeg").unlink()  # which is mended
    assert fetch(data("rendered"), raw) == record


@pytest.mark.parametrize("path", ["data", "data/raw"])
def test_the_synthetic_images_are_not_taken_for_a_persons_own(path: str, raw: Path, tmp_path: Path) -> None:
    fetch(data("rendered"), raw)
    photos(tmp_path / "data" / "vehicles")
    with pytest.raises(Failure, match=r"leads to .*data/raw, where `fetch` itself puts images"):
        fetch(data("directory", directory={"path": str(tmp_path / path)}), raw)


def test_a_zip_with_backslashes_is_unpacked(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            entry = zipfile.ZipInfo("x")
            entry.filename = str(path.relative_to(folder)).replace("/", "\\")
            archive.writestr(entry, path.read_bytes())
    assert fetch(data("archive", archive={"url": str(tmp_path / "a.zip")}), raw)["images"] == 4


def test_two_folders_of_classes_are_not_guessed_between(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "train").rename(folder / "training")
    (folder / "valid").rename(folder / "test")
    settings = data("directory", directory={"path": str(folder)}, valid_fraction=0.5)
    with pytest.raises(Failure, match=r"several folders that hold Car/ and Truck/: test/, training/\. Call them"):
        fetch(settings, raw)


def test_images_outside_of_what_is_taken_are_counted(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in ("fold1", "fold2"):
        photos(tmp_path / "photos" / fold)
    fetch(data("directory", directory={"path": str(tmp_path / "photos")}), raw)
    assert "photos: left out 4 image(s) outside of fold1/train/ and fold1/valid/\n" in capsys.readouterr().err
    fetch(data("directory", directory={"path": str(tmp_path / "photos/fold1")}), raw)
    assert "left out" not in capsys.readouterr().err
    (tmp_path / "links").mkdir()
    for split in folders.SPLITS:
        (tmp_path / "links" / split).symlink_to(tmp_path / "photos/fold1" / split)
    fetch(data("directory", directory={"path": str(tmp_path / "links")}), raw)
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize(("source", "key"), [("archive", "url"), ("directory", "path")])
def test_a_path_of_the_other_kind_is_wrong_and_not_out_of_reach(
    source: str, key: str, raw: Path, tmp_path: Path
) -> None:
    path = tmp_path / "it"
    path.touch() if source == "directory" else path.mkdir()
    with pytest.raises(Failure, match=rf"data\.{source}\.{key} is .*/it, a (file|folder)\. Name "):
        fetch(data(source, "rendered", **{source: {key: str(path)}}), raw)


def test_a_validation_fraction_that_takes_no_image_is_named(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", each=3) / "train"
    with pytest.raises(Failure, match=r"data\.valid_fraction is 1e-06, which leaves no Car in validation"):
        fetch(data("directory", directory={"path": str(folder)}, valid_fraction=1e-6), raw)


def test_a_split_by_content_stays_when_images_are_added(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", each=30)
    only = tmp_path / "only"
    only.mkdir()
    (folder / "train").rename(only / "train")
    settings = data("directory", directory={"path": str(only)}, valid_fraction=0.4)
    with pytest.raises(Failure, match="has no folder valid/"):
        fetch(data("directory", directory={"path": str(only)}), raw)
    record = fetch(settings, raw)
    assert 10 < sum(record["counts"]["valid"].values()) < 40
    before = {path.name: path.parts[-3] for path in (raw).rglob("Car/*.JPEG")}
    (only / "train/Car/new.JPEG").write_bytes((folder / "valid/Car/a.JPEG").read_bytes())
    (only / "train/Car/twin.JPEG").write_bytes((only / "train/Car/a.JPEG").read_bytes())
    fetch(settings, raw)
    after = {path.name: path.parts[-3] for path in (raw).rglob("Car/*.JPEG")}
    assert {name: after[name] for name in before} == before
    assert after["twin.JPEG"] == after["a.JPEG"]  # the same content never stands on both sides


def test_classes_without_any_split_are_divided(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", each=12) / "train"
    record = fetch(data("directory", directory={"path": str(folder)}, valid_fraction=0.5), raw)
    assert record["images"] == 24


@pytest.mark.parametrize(
    ("limit", "says"),
    [({"max_files": 3}, r"holds more than 3 files"), ({"max_gigabytes": 1e-6}, r"unpacks to more than 1e-06 GB")],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_past_its_limits_is_refused(limit: Any, says: str, kind: str, raw: Path, tmp_path: Path) -> None:
    folder, path = photos(tmp_path / "photos"), tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(folder, path)
    else:
        with tarfile.open(path, "w") as archive:
            archive.add(folder, "photos")
    with pytest.raises(Failure, match=says):
        fetch(data("archive", archive={"url": str(path), **limit}), raw)
    assert nothing_was_written(raw)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_the_validation_set_may_have_another_usual_name(
    name: str, raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "photos")
    valid = content(folder / "valid")
    (folder / "valid").rename(folder / name)
    (folder / "train" / "a.txt").write_text("stray")
    assert fetch(data("archive", archive={"url": str(zipped(folder, tmp_path / "a.zip"))}), raw)["images"] == 4
    assert f"a.zip: {name}/ is taken as the validation set." in " ".join(capfd.readouterr().err.split())
    assert content(raw / "valid") == valid
    assert sorted(path.name for path in raw.iterdir()) == ["SOURCE.json", "train", "valid"]


def test_two_validation_sets_are_an_error_that_names_both(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    shutil.copytree(folder / "valid", folder / "val")
    with pytest.raises(Failure, match=r"more than one validation set: valid/ and val/ beside train/"):
        fetch(data("directory", directory={"path": str(folder)}), raw)
    assert nothing_was_written(raw)


def test_a_test_set_is_not_taken_as_the_validation_set(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    (folder / "valid").rename(folder / "test")
    with pytest.raises(Failure, match=r"no folder valid/.* holds: test/, train/\. It may be named val/ .* not test/"):
        fetch(data("directory", directory={"path": str(folder)}), raw)


@pytest.mark.parametrize(
    "url",
    [
        "data:application/zip;base64,UEsDBBQ" + "A" * 5000,
        "http:/example.org/a.zip",
        "nonsense://example.org/a.zip",
        "github://owner/repository/a.zip",  # without a branch
    ],
)
def test_an_address_that_is_neither_path_nor_url_is_an_error_and_no_reason_to_fall_back(url: str, raw: Path) -> None:
    with pytest.raises(Failure, match=rf"^data\.archive\.url is {url[:30]}.* Allowed: a path, or a URL") as caught:
        fetch(data("archive", "rendered", archive={"url": url}), raw)
    assert len(str(caught.value)) < 300
    assert nothing_was_written(raw)


def test_the_secrets_of_a_url_are_neither_printed_nor_remembered(
    raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    (tmp_path / "b.zip").write_text("no archive")
    with served(tmp_path) as address:
        url = f"{address.replace('//', '//user:SECRET@')}/a.zip?token=SECRET&X-Amz-Signature=SECRET"
        settings = data("archive", "rendered", archive={"url": url})
        record = fetch(settings, raw)
        with pytest.raises(Failure) as wrong_checksum:
            fetch(data("archive", archive={"url": url, "sha256": "0" * 64}), raw)
        with pytest.raises(Failure) as missing:
            fetch(data("archive", archive={"url": url.replace("a.zip", "c.zip")}), raw)
        with pytest.raises(Failure) as broken:
            fetch(data("archive", archive={"url": url.replace("a.zip", "b.zip")}), raw)
    assert fetch(settings, raw) == record  # the server is gone
    masked_url = f"{address.replace('//', '//***@')}/a.zip?token=***&X-Amz-Signature=***"
    assert record["origin"]["url"] == record["request"]["url"] == masked_url
    messages = [str(caught.value) for caught in (wrong_checksum, missing, broken)]
    assert all("/***@127.0.0.1" in message and "SECRET" not in message for message in messages)
    assert "SECRET" not in (raw / "SOURCE.json").read_text()
    printed = "".join(capfd.readouterr())
    assert "Downloading" in printed
    assert "SECRET" not in printed


def test_a_url_that_differs_in_a_masked_part_is_another_request(raw: Path, tmp_path: Path) -> None:
    zipped(photos(tmp_path / "photos"), tmp_path / "a.zip")
    with served(tmp_path) as url:
        fetch(data("archive", archive={"url": f"{url}/a.zip?id=1"}), raw)
    with pytest.raises(Failure, match="fetched with other settings"):
        fetch(data("archive", "rendered", archive={"url": f"{url}/a.zip?id=2"}), raw)


def test_a_name_that_looks_like_markup_is_printed_as_it_is(
    raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "[bold] photos")
    (folder / "train/[x]").mkdir()
    (folder / "train/[x]/a.txt").write_text("stray")
    fetch(data("directory", directory={"path": str(folder)}), raw)
    fetch(data("archive", "rendered", archive={"url": "/[b]/[x].zip"}), tmp_path / "other" / "raw")
    console = " ".join(capfd.readouterr().err.split())
    assert "[bold] photos: left out 1 file(s)" in console
    assert "train/[x]/" in console
    assert "archive: out of reach (there is no file /[b]/[x].zip)" in console


def rename_to_latin1(folder: Path) -> Path:
    path = os.fsencode(folder / "train/Car")
    os.rename(path + b"/a.JPEG", path + b"/caf\xe9.JPEG")  # noqa: PTH104
    return folder


@pytest.mark.parametrize("source", ["directory", "archive"])
def test_a_name_that_is_not_utf8_is_spelt_in_ascii(source: str, raw: Path, tmp_path: Path) -> None:
    folder = rename_to_latin1(photos(tmp_path / "photos"))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder, "photos")
    settings = {"directory": {"path": str(folder)}, "archive": {"url": str(tmp_path / "a.tar")}}
    assert fetch(data(source, **settings), raw)["images"] == 4
    assert [path.name for path in (raw / "train/Car").iterdir()] == ["caf%E9.JPEG"]


def test_two_names_that_would_become_the_same_are_an_error(raw: Path, tmp_path: Path) -> None:
    folder = rename_to_latin1(photos(tmp_path / "photos"))
    shutil.copyfile(folder / "train/Truck/a.JPEG", folder / "train/Car/caf%E9.JPEG")
    with pytest.raises(Failure, match=r"two images that would be train/Car/caf%E9\.JPEG"):
        fetch(data("directory", directory={"path": str(folder)}), raw)
    assert nothing_was_written(raw)


ON_A_FULL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers.sources import data
from car_or_truck.errors import Failure
from car_or_truck.fetch.stage import fetch

fetch(data("rendered"), Path("disk/raw"))
try:
    fetch(data("rendered", rendered={"train": 500}), Path("disk/raw"))
except Failure as error:
    print(error)
print(*sorted(path.name for path in Path("disk").rglob("*") if path.suffix != ".jpeg"))
"""
IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]  # where anyone may mount a small disk


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="this machine lets nobody mount a small disk",
)
def test_a_full_disk_is_reported_plainly_and_the_images_before_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(ON_A_FULL_DISK)
    script = f'mount -t tmpfs -o size=300k none disk && "{sys.executable}" script.py "{ROOT / "tests"}"'
    process = subprocess.run([*IN_A_NAMESPACE, "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "Cannot make disk/raw: No space left on device" in process.stdout
    assert process.stdout.splitlines()[-1] == "Car Car SOURCE.json Truck Truck raw train valid"
