"""Image files as arrays.

What is here decides the arrays that every model is trained on, so `prepare` depends on it. It is also
shipped inside every logged model, which letterboxes what it is asked about as it was trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError


class Decoded(NamedTuple):
    """A picture, and what its file said of it."""

    pixels: NDArray[np.uint8]  # [size, size, 3], RGB
    width: int  # before letterboxing, upright
    height: int
    mode: str  # Pillow's name: RGB, L, CMYK, ...


def decode(
    file: Path | IO[bytes], size: int, formats: tuple[str, ...] | None = None, most_pixels: int | None = None
) -> Decoded:
    """The picture as it looks to a person, letterboxed to size x size on black.

    `formats`: Pillow's names of those that are tried; None: all. `most_pixels`: of the picture, before it is unpacked.
    Raises ValueError with the reason when the file is not a whole picture.
    """
    try:
        with Image.open(file, formats=formats) as opened:
            mode = opened.mode
            if most_pixels is not None and opened.width * opened.height > most_pixels:
                raise ValueError(f"{opened.width}x{opened.height} pixels are more than {most_pixels:,}")
            picture = _rgb(ImageOps.exif_transpose(opened))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError("not an image" if isinstance(error, UnidentifiedImageError) else str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    width, height = picture.size
    return Decoded(_fitted(picture, size), width, height, mode)


def from_pixels(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture [h, w, 3], or [h, w] in grey, letterboxed like a file's: [size, size, 3]."""
    return _fitted(_rgb(Image.fromarray(pixels)), size)


def _fitted(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(picture if picture.size == (size, size) else _letterboxed(picture, size), np.uint8)


def _letterboxed(picture: Image.Image, size: int) -> Image.Image:
    """The whole picture on a black square; ImageOps.pad would lose one that is a few pixels wide."""
    width, height = (max(1, round(side * size / max(picture.size))) for side in picture.size)
    square = Image.new("RGB", (size, size))
    fitted = picture.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return square


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):  # 16 bits: Pillow would clip, not scale
        levels = np.asarray(picture, np.float64)
        top = 65535.0 if levels.max() > 255 else 255.0
        picture = Image.fromarray((levels.clip(0, top) / top * 255).round().astype(np.uint8))
    if picture.has_transparency_data:  # over black, as the letterbox bars are
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")
    return picture.convert("RGB")
