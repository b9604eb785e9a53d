from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from car_or_truck.fetch.standin.draw import draw
from car_or_truck.prepare import images


def picture() -> Image.Image:
    return draw(1, "train", 0)


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    assert np.array_equal(images.decode(tmp_path / "a.png", 128).pixels, np.asarray(picture()))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1"])
def test_every_mode_comes_out_as_it_looks(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    converted = picture().convert(mode)
    converted.save(path)
    pixels = images.decode(path, 128).pixels.astype(int)
    assert pixels.shape == (128, 128, 3)
    assert np.abs(pixels - np.asarray(converted.convert("RGB")).astype(int)).mean() < 2


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.asarray(picture().convert("L")).astype(np.uint16)
    Image.fromarray(grey * 257).save(tmp_path / "a.png")
    pixels = images.decode(tmp_path / "a.png", 128).pixels[:, :, 0].astype(int)
    assert np.abs(pixels - grey.astype(int)).max() <= 1


def test_a_transparent_part_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (128, 128), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png", 128).pixels.max() == 0


def test_a_rotated_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise to look right
    picture().rotate(90).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.decode(tmp_path / "a.png", 128).pixels, np.asarray(picture()))


def test_a_rotated_photograph_with_odd_exif_data_is_turned_too(tmp_path: Path) -> None:
    exif = b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, 2)
    exif += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # the camera was turned
    exif += struct.pack("<HHI4sI", 0x011A, 2, 3, b"72", 0)  # a resolution as text, which Pillow cannot write back
    picture().rotate(90).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    pixels = images.decode(tmp_path / "a.jpg", 128).pixels.astype(int)
    assert np.abs(pixels - np.asarray(picture()).astype(int)).mean() < 2


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_a_photograph_with_unreadable_exif_data_is_read(form: str, tmp_path: Path) -> None:
    picture().save(tmp_path / f"a.{form}", exif=b"Exif\0\0garbage")
    assert images.decode(tmp_path / f"a.{form}", 128).width == 128


@pytest.mark.parametrize("highest", [1.0, 1.02])
def test_grey_levels_between_0_and_1_are_not_black(highest: float, tmp_path: Path) -> None:
    grey = np.asarray(picture().convert("L"))
    levels = grey.astype(np.float32) / 255
    levels[0, 0] = highest  # a little more than 1, as resampling leaves it
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    decoded = images.decode(tmp_path / "a.tiff", 128).pixels[:, :, 0].astype(int)
    assert np.abs(decoded - grey.astype(int))[1:].max() <= 1


def test_grey_levels_of_more_than_16_bits_are_not_white(tmp_path: Path) -> None:
    levels = np.tile(np.arange(128, dtype=np.int32) * 10_000, (128, 1))
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    decoded = images.decode(tmp_path / "a.tiff", 128).pixels[0, :, 0].astype(int)
    assert np.abs(decoded - np.linspace(0, 255, 128)).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (64, 64), (1, 300)])
def test_any_shape_is_letterboxed_whole(width: int, height: int, tmp_path: Path) -> None:
    Image.new("RGB", (width, height), "white").save(tmp_path / "a.png")
    pixels = images.decode(tmp_path / "a.png", 128).pixels
    white = pixels.min(axis=2) > 250
    assert white.any(axis=0).sum() == max(1, round(128 * min(1, width / height)))
    assert white.any(axis=1).sum() == max(1, round(128 * min(1, height / width)))
    bars = [np.argmax(lines.any(axis=axis)) for axis in (0, 1) for lines in (white, white[::-1, ::-1])]
    assert abs(bars[0] - bars[1]) <= 1  # left and right
    assert abs(bars[2] - bars[3]) <= 1  # top and bottom


def encoded(form: str = "jpeg") -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"just text", "not an image"),
        (encoded()[100:], "not an image"),
        (encoded()[:300], "Truncated File Read"),
        (encoded()[:-2000], "image file is truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (b"\0\0\1\0" + bytes(40), "not an image"),  # an icon
    ],
)
def test_anything_but_a_whole_image_is_refused_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}"):
        images.decode(tmp_path / "a.jpg", 128)


def test_no_other_program_is_asked_to_read_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "a.eps")
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **_: started.append(command))
    with pytest.raises(ValueError, match="not an image"):
        images.decode(tmp_path / "a.eps", 128)
    assert not started


@pytest.mark.parametrize("form", images.FORMATS)
def test_a_damaged_file_of_any_format_is_decoded_or_refused_with_one_line(form: str) -> None:
    whole = encoded(form)
    damaged = [whole[:size] for size in range(0, len(whole), max(1, len(whole) // 40))]
    damaged += [whole[:place] + b"\xff\0\xff" + whole[place + 3 :] for place in range(0, len(whole), len(whole) // 50)]
    outcomes = [outcome(content) for content in damaged]
    assert outcome(whole) == "decoded"
    assert sum(text != "decoded" for text in outcomes) >= 10
    assert all(text and "\n" not in text for text in outcomes)


def outcome(content: bytes) -> str:
    try:
        pixels = images.decode(io.BytesIO(content), 32).pixels
    except ValueError as error:
        return str(error)
    assert pixels.shape == (32, 32, 3)
    return "decoded"


def test_a_level_that_is_not_a_number_is_black(tmp_path: Path) -> None:
    levels = np.full((128, 128), 200, np.float32)
    levels[:64] = np.nan
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    pixels = images.decode(tmp_path / "a.tiff", 128).pixels
    assert (pixels[:64] == 0).all()
    assert (pixels[64:] == 200).all()


@pytest.mark.parametrize("side", [8001, 10_000, 13_000, 14_000])  # Pillow warns from 9460, refuses from 13378
def test_more_pixels_than_allowed_are_refused_before_they_are_decoded(side: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.new("1", (side, side)).save(tmp_path / "a.jpg", "tiff", compression="group4")
    assert (tmp_path / "a.jpg").stat().st_size < 10_000
    with pytest.raises(ValueError, match="more than 64,000,000"):
        images.decode(tmp_path / "a.jpg", 128)


def test_a_line_longer_than_any_photograph_is_refused(tmp_path: Path) -> None:
    Image.new("1", (70_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="70000x1 pixels: a side is longer than 65,535"):
        images.decode(tmp_path / "a.png", 128)


DECODES = """
import resource, sys
from pathlib import Path
from car_or_truck.prepare import images

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    images.decode(Path(sys.argv[1]), 128)
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


def decoded_alone(path: Path) -> tuple[list[str], str]:
    """What a process of its own prints: the reason if any, its peak memory (MB) beyond its imports; and its stderr."""
    process = subprocess.run([sys.executable, "-c", DECODES, str(path)], capture_output=True, text=True, check=True)
    return process.stdout.splitlines(), process.stderr


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_deep_levels_are_scaled_in_little_memory(kind: type, tmp_path: Path) -> None:
    Image.fromarray(np.full((4000, 4000), 60_000, kind)).save(tmp_path / "a.tiff")
    lines, output = decoded_alone(tmp_path / "a.tiff")
    assert (len(lines), output) == (1, "")
    assert int(lines[0]) < 64 + 16 + 100  # its levels, the same in 8 bits, and a strip


def test_pillows_own_warning_of_large_images_is_not_printed(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    lines, output = decoded_alone(tmp_path / "a.png")
    assert (lines[0], output) == ("more than 64,000,000 pixels", "")


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.WebP", "a.bmp", "a.GIF"])
def test_every_format_is_found_and_read(name: str, tmp_path: Path) -> None:
    from car_or_truck.fetch.folders import is_image

    picture().save(tmp_path / name)
    assert is_image(Path(name))
    image = images.decode(tmp_path / name, 128)
    assert (image.width, image.height) == (128, 128)
    assert np.abs(image.pixels.astype(int) - np.asarray(picture()).astype(int)).mean() < 12  # GIF has 256 colours


def test_a_photograph_in_cmyk_comes_out_as_it_looks(tmp_path: Path) -> None:
    picture().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = images.decode(tmp_path / "a.jpg", 128)
    assert image.mode == "CMYK"
    assert np.abs(image.pixels.astype(int) - np.asarray(picture()).astype(int)).mean() < 6
