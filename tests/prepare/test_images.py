from __future__ import annotations

import io
from pathlib import Path

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
    seen = images.decode(path, 128).pixels.astype(int)
    assert seen.shape == (128, 128, 3)
    assert np.abs(seen - np.asarray(converted.convert("RGB")).astype(int)).mean() < 2


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.asarray(picture().convert("L")).astype(np.uint16)
    Image.fromarray(grey * 257).save(tmp_path / "a.png")
    seen = images.decode(tmp_path / "a.png", 128).pixels[:, :, 0].astype(int)
    assert np.abs(seen - grey.astype(int)).max() <= 1


def test_a_see_through_part_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (128, 128), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png", 128).pixels.max() == 0


def test_a_rotated_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise to look right
    picture().rotate(90).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.decode(tmp_path / "a.png", 128).pixels, np.asarray(picture()))


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (64, 64), (1, 300)])
def test_any_shape_is_letterboxed_whole(width: int, height: int, tmp_path: Path) -> None:
    Image.new("RGB", (width, height), "white").save(tmp_path / "a.png")
    seen = images.decode(tmp_path / "a.png", 128).pixels
    white = seen.min(axis=2) > 250
    assert white.any(axis=0).sum() == max(1, round(128 * min(1, width / height)))
    assert white.any(axis=1).sum() == max(1, round(128 * min(1, height / width)))
    assert np.array_equal(white, white[::-1]) or min(width, height) == 1  # the bars are equal


def encoded() -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"just text", encoded()[:300], encoded()[:-2000], encoded()[100:]])
def test_what_is_no_whole_picture_is_refused_with_the_reason(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"\w{3}"):
        images.decode(tmp_path / "a.jpg", 128)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    picture().save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="decompression bomb"):
        images.decode(tmp_path / "a.png", 128)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.WebP", "a.bmp", "a.GIF"])
def test_every_format_is_found_and_read(name: str, tmp_path: Path) -> None:
    from car_or_truck.fetch.folders import is_image

    picture().save(tmp_path / name)
    assert is_image(Path(name))
    seen = images.decode(tmp_path / name, 128)
    assert (seen.width, seen.height) == (128, 128)
    assert np.abs(seen.pixels.astype(int) - np.asarray(picture()).astype(int)).mean() < 12  # GIF has 256 colours


def test_a_photograph_in_cmyk_comes_out_as_it_looks(tmp_path: Path) -> None:
    picture().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    seen = images.decode(tmp_path / "a.jpg", 128)
    assert seen.mode == "CMYK"
    assert np.abs(seen.pixels.astype(int) - np.asarray(picture()).astype(int)).mean() < 6
