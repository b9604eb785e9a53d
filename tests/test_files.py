from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_or_truck import files
from car_or_truck.errors import Failure


def test_a_folder_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.whole_folder(target) as folder:
        (folder / "a").write_text("first")
        assert not target.exists()

    def break_off() -> None:
        with files.whole_folder(target) as folder:
            (folder / "a").write_text("second")
            raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        break_off()
    assert (target / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_elsewhere_stays_one(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "disk" / "out", tmp_path / "out"
    elsewhere.mkdir(parents=True)
    link.symlink_to(elsewhere)
    for content in ("first", "second"):
        with files.whole_folder(link) as folder:
            assert folder.parent == elsewhere.parent
            (folder / "a").write_text(content)
        assert link.is_symlink()
        assert (elsewhere / "a").read_text() == content
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "disk", "out", "out"]


def test_a_killed_writer_leaves_the_old_folder_and_the_next_one_starts_clean(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.whole_folder(target) as folder:
        (folder / "a").write_text("first")
    script = (
        "import sys, time, pathlib; from car_or_truck import files\n"
        "with files.whole_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    with writer.stdout:
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert [path.name for path in target.iterdir()] == ["a"]
    with files.whole_folder(target) as folder:
        (folder / "b").write_text("second")
    assert [path.name for path in target.iterdir()] == ["b"]


def test_a_writer_that_is_broken_off_at_its_end_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "out", Path.rename
    target.mkdir()
    (target / "a").write_text("first")

    def broken(path: Path, to: Path) -> Path:
        if path.name == "out.part":
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", broken)
        with pytest.raises(KeyboardInterrupt), files.whole_folder(target):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "a").read_text() == "first"

    target.rename(tmp_path / "out.old.part")  # killed between the two renames
    with pytest.raises(RuntimeError), files.whole_folder(target):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("write", [lambda path: files.write_text(path, "x"), lambda path: files.write_json(path, {})])
def test_a_place_that_cannot_be_written_is_named(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Failure, match=r"Cannot write .*file/out"):
        write(tmp_path / "file" / "out")
    with pytest.raises(Failure, match=r"Cannot make .*file/out"), files.whole_folder(tmp_path / "file" / "out"):
        pass


def test_a_file_whose_writer_is_interrupted_leaves_no_part(tmp_path: Path) -> None:
    def interrupted() -> None:
        with files.whole_file(tmp_path / "7.json") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_file_that_finds_no_room_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_text("old")
    script = (
        "import resource, sys, pathlib; import numpy as np; from car_or_truck import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "with files.whole_file(pathlib.Path(sys.argv[1])) as part:\n"
        "    np.savez(part, values=np.zeros(10_000))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "out.npz"], capture_output=True, text=True)
    assert "Failure: Cannot write" in ended.stderr.splitlines()[-1]
    assert ended.stderr.splitlines()[-1].endswith("out.npz: File too large.")
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    assert (tmp_path / "out.npz").read_text() == "old"


def test_the_digest_is_what_sha256sum_prints(tmp_path: Path) -> None:
    names = ["b", "a b", "Ä", "a/c", "a.c"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 3)
    assert shutil.which("sha256sum")
    command = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert files.content_digest((name, files.sha256(tmp_path / name)) for name in names) == printed.split()[0]


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["0" * 64, "f" * 64]), min_size=1), st.randoms())
def test_the_digest_knows_no_order_and_notices_any_change(entries: dict[str, str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(entries.items())
    random.shuffle(shuffled)
    digest = files.content_digest(entries.items())
    assert files.content_digest(shuffled) == digest
    name, checksum = shuffled[0]
    assert files.content_digest([*shuffled[1:], (name, "a" + checksum[1:])]) != digest
    assert files.content_digest([*shuffled[1:], (name + "x", checksum)]) != digest


def test_broken_json_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(Failure, match=r"a\.json cannot be read .* Do this"):
        files.read_json(tmp_path / "a.json", "Do this.")


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
