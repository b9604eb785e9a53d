"""The file that data.exclude names: what is read from it, and how a wrong line is refused."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_or_truck.errors import Failure
from car_or_truck.prepare.exclusions import read_exclusions
from helpers.clones import ROOT
from helpers.sources import NOTHING, SHIPPED

IMAGES = {"train/Car/00001.jpeg", "valid/Car/00002.jpeg", "valid/Truck/a, b.png", "valid/Truck/トラック.jpeg"}


def read(content: str | bytes, folder: Path) -> list[dict[str, str]]:
    path = folder / "exclude.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_exclusions(path, IMAGES)


def test_a_file_without_a_line_excludes_nothing() -> None:
    assert read_exclusions(NOTHING, IMAGES) == []


def test_the_shipped_file_has_the_header_that_is_read() -> None:
    assert (ROOT / SHIPPED.exclude).read_text().splitlines()[0] == "name,reason"


@pytest.mark.parametrize(
    "content",
    [
        'name,reason\nvalid/Car/00002.jpeg,a pickup\n"valid/Truck/a, b.png","blurred, dark"\n',
        'name, reason\nvalid/Car/00002.jpeg, a pickup\n\n"valid/Truck/a, b.png", "blurred, dark"\n',
        '\ufeffname,reason\r\nvalid/Car/00002.jpeg,a pickup\r\n"valid/Truck/a, b.png","blurred, dark"\r\n',
        # lines of suspects.csv, with a reason
        'name,label,models,reason\nvalid/Car/00002.jpeg,Car,3,a pickup\n"valid/Truck/a, b.png",Truck,3,"blurred, dark"',
    ],
)
def test_names_and_reasons_are_read_as_editors_and_spreadsheets_write_them(content: str, tmp_path: Path) -> None:
    assert read(content, tmp_path) == [
        {"name": "valid/Car/00002.jpeg", "reason": "a pickup"},
        {"name": "valid/Truck/a, b.png", "reason": "blurred, dark"},
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: the header must be name,reason, but is missing"),
        ("name\nvalid/Car/00002.jpeg\n", r"line 1: the header must be name,reason, but is \['name'\]"),
        ("name;reason\n", r"line 1: the header must be name,reason, but is \['name;reason'\]"),
        ("name,reason\n\nvalid/Car/0002.jpeg,dark\n", "line 3: .* 'valid/Car/0002.jpeg'. .* 'valid/Car/00002.jpeg'?"),
        ("name,reason\nCar/00002.jpeg,dark\n", "line 2: .* 'Car/00002.jpeg'. Did you mean 'valid/Car/00002.jpeg'?"),
        ("name,reason\nx,dark\n", "line 2: there is no image 'x'. Names are SPLIT/CLASS/FILE"),
        ("name,reason\n,dark\n", "line 2: there is no image ''"),
        (
            "name,reason\nvalid/Car/00002.jpeg,a\ntrain/Car/00001.jpeg,b\nvalid/Car/00002.jpeg,c\n",
            "line 4: valid/Car/00002.jpeg is listed in line 2 already",
        ),
        ("name,reason\nvalid/Car/00002.jpeg,\n", "line 2: valid/Car/00002.jpeg has no reason"),
        ("name,reason\nvalid/Car/00002.jpeg, \n", "line 2: valid/Car/00002.jpeg has no reason"),
        ("name,reason\nvalid/Car/00002.jpeg\n", "line 2: valid/Car/00002.jpeg has no reason"),
        ("name,reason\nvalid/Truck/a, b.png,dark\n", "line 2: more fields than the header. Put quotes"),
        ('name,reason\n"valid/Car/00002.jpeg,dark\n', r"exclude.csv is not a CSV file in UTF-8 \(unexpected end"),
        (b"name,reason\nvalid/Car/00002.jpeg,caf\xe9\n", "exclude.csv is not a CSV file in UTF-8"),
    ],
)
def test_a_wrong_line_is_named_with_the_way_out(content: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=says) as caught:
        read(content, tmp_path)
    assert str(tmp_path / "exclude.csv") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_without_the_file_it_says_what_to_write(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        Failure, match=r"cannot be read \(.*\)\. Correct data.exclude .* whose only line is name,reason"
    ):
        read_exclusions(tmp_path / name, IMAGES)


reasons = st.text(min_size=1).map(str.strip).filter(bool)


@given(st.dictionaries(st.sampled_from(sorted(IMAGES)), reasons))
def test_what_a_csv_writer_wrote_is_read_back(rows: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exclude.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("name", "reason"), *rows.items()])
        assert read_exclusions(path, IMAGES) == [{"name": name, "reason": reason} for name, reason in rows.items()]


lines = st.lists(st.sampled_from([*sorted(IMAGES), ",", '"', "\n", "\r", " ", "why", "\ufeff", "\0"])).map("".join)


@given(st.one_of(st.binary(), lines.map(lambda text: f"name,reason\n{text}".encode())))
def test_any_other_content_is_read_or_refused_in_one_line(content: bytes) -> None:
    excluded, message = [], ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            excluded = read(content, Path(folder))
        except Failure as failure:
            message = str(failure)
    assert len(message.splitlines()) <= 1
    names = [item["name"] for item in excluded]
    assert len(set(names)) == len(names)
    assert set(names) <= IMAGES
    assert all(item["reason"].strip() for item in excluded)
