from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from car_or_truck.fetch.stage import fetch
from helpers.clones import ROOT, photos
from helpers.sources import data, nothing_was_written


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw"


def test_rendered_images_come_with_a_record_of_what_they_are(raw: Path) -> None:
    record = fetch(data("rendered"), raw)
    assert record == files.read_json(raw / "SOURCE.json", "")
    assert (record["source"], record["stand_in"], record["images"]) == ("rendered", True, 16)
    assert record["counts"] == folders.check(raw, ("Car", "Truck"), "raw")
    listed = list(raw.rglob("*.jpeg"))
    digest = files.content_digest((str(path.relative_to(raw)), files.sha256(path)) for path in listed)
    assert record["digest"] == digest


def test_a_folder_is_copied_and_left_alone(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    record = fetch(data("directory", directory={"path": str(folder)}), raw)
    assert not record["stand_in"]
    assert (raw / "train/Car/a.JPEG").read_bytes() == (folder / "train/Car/a.JPEG").read_bytes()


@pytest.mark.parametrize("prefix", ["", "car-or-truck/", "a/b/"])
def test_an_archive_is_unpacked_wherever_its_folders_are_nested(prefix: str, raw: Path, tmp_path: Path) -> None:
    path = zipped(photos(tmp_path / "photos"), tmp_path / "a.zip", prefix)
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
    with pytest.raises(Failure, match=r"a\.zip is no whole zip or tar archive"):
        fetch(data("archive", "rendered", archive={"url": str(path)}), raw)
    assert nothing_was_written(raw)


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/tmp/evil.jpg", "train/../../evil.jpg", "C:/evil.jpg", "..\\evil.jpg"]
)
def test_an_entry_that_points_outside_is_refused(name: str, raw: Path, tmp_path: Path) -> None:
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
    with pytest.raises(Failure, match="neither a file nor a folder"):
        fetch(data("archive", archive={"url": str(tmp_path / "a.tar")}), raw)


def test_a_missing_split_or_class_is_an_error(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    shutil.rmtree(folder / "valid")
    with pytest.raises(Failure, match="has no folder valid/"):
        fetch(data("directory", "rendered", directory={"path": str(folder)}), raw)
    photos(tmp_path / "emptied", "train/Truck")
    with pytest.raises(Failure, match="has no image in train/Truck/"):
        fetch(data("directory", "rendered", directory={"path": str(tmp_path / "emptied")}), raw)
    assert nothing_was_written(raw)


def test_what_is_out_of_reach_is_passed_over_loudly(raw: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = {"archive": {"url": "/nowhere/a.zip"}, "directory": {"path": "/nowhere"}}
    record = fetch(data("archive", "directory", "rendered", **missing), raw)
    assert (record["source"], record["unreached"]) == ("rendered", ["archive", "directory"])
    said = capfd.readouterr().err
    assert "there is no file /nowhere/a.zip" in said
    assert "not the real data" in said
    assert "STAND-IN" in said
    assert "make data" in said


def test_when_nothing_can_be_reached_the_way_out_is_named(raw: Path) -> None:
    with pytest.raises(Failure, match=r"None of data.sources \(directory\) can be reached"):
        fetch(data("directory", directory={"path": "/nowhere"}), raw)
    assert nothing_was_written(raw)


def test_real_images_survive_an_hour_without_their_source(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    settings = data("directory", "rendered", directory={"path": str(folder)})
    first = fetch(settings, raw)
    folder.rename(tmp_path / "unplugged")
    assert fetch(settings, raw) == first
    (raw / "train/Car/a.JPEG").write_bytes(b"changed by hand")
    assert fetch(settings, raw)["source"] == "rendered"
    (tmp_path / "unplugged").rename(folder)
    assert fetch(settings, raw) == first


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(Failure, match=r"Cannot write .*data/raw"):
        fetch(data("rendered"), tmp_path / "data" / "raw")


@contextmanager
def served(folder: Path, status: int = 200, port: int = 0) -> Iterator[str]:
    """A web server on this machine; one that answers everything with `status` unless that is 200."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if status != 200:
                self.send_error(status)
            else:
                super().do_GET()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def test_a_dead_server_is_out_of_reach(raw: Path) -> None:
    with socket.socket() as held:  # a port that nobody listens on
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/a.zip"
        assert fetch(data("archive", "rendered", archive={"url": url}), raw)["source"] == "rendered"


def test_a_users_own_classes_and_nested_names_are_kept(raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "pets", classes=("Cat", "Dog"))
    (folder / "train/Cat/kitten é").mkdir()
    (folder / "train/Cat/a.JPEG").rename(folder / "train/Cat/kitten é/a b.JPEG")
    record = fetch(data("directory", directory={"path": str(folder)}, classes=["Cat", "Dog"]), raw)
    assert record["counts"]["train"] == {"Cat": 1, "Dog": 1}
    assert (raw / "train/Cat/kitten é/a b.JPEG").is_file()


@pytest.mark.parametrize("link", [True, False])
def test_a_folders_files_are_linked_or_copied_as_asked(link: bool, raw: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)  # a source that cannot be written
    fetch(data("directory", directory={"path": str(folder), "link": link}), raw)
    assert (raw / "train/Car/a.JPEG").samefile(folder / "train/Car/a.JPEG") is link


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
def test_a_full_disk_is_said_plainly_and_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(ON_A_FULL_DISK)
    script = f'mount -t tmpfs -o size=300k none disk && "{sys.executable}" script.py "{ROOT / "tests"}"'
    done = subprocess.run([*IN_A_NAMESPACE, "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Cannot write disk/raw: No space left on device" in done.stdout
    assert done.stdout.splitlines()[-1] == "Car Car SOURCE.json Truck Truck raw train valid"
