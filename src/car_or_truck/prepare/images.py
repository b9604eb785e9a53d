"""Image files as arrays, and back.

What is here decides the arrays that every model is trained on, so `prepare` depends on it. It is also
shipped inside every logged model, which decodes and letterboxes an image exactly as it was trained.
"""

from __future__ import annotations

import base64
import struct
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# What photographs and screenshots come as. Pillow knows more formats, and runs other programs for some (EPS).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 64_000_000  # of one image: a small file can claim to hold gigabytes
MOST_SIDE = 65_535  # pixels, JPEG's own limit: resizing takes memory in proportion to the longer side
STRIP = 1 << 20  # pixels converted at a time: NumPy and alpha compositing need many bytes for each

# Pillow warns of images larger than it trusts; all of them are beyond MOST_PIXELS, and refused.
warnings.simplefilter("error", Image.DecompressionBombWarning)
# Of odd EXIF data in whole images, which it does not name.
warnings.filterwarnings("ignore", module="PIL.TiffImagePlugin")


class Decoded(NamedTuple):
    """An image, and what its file said about it."""

    pixels: NDArray[np.uint8]  # [size, size, 3], RGB
    width: int  # pixels before letterboxing, upright
    height: int
    mode: str  # Pillow's name: RGB, L, CMYK, ...


def decode(file: Path | IO[bytes], size: int) -> Decoded:
    """The image as a person sees it (upright, transparency on black), letterboxed to size x size on black.

    Raises ValueError with the reason, in one line, for anything but a whole image in one of FORMATS of
    at most MOST_PIXELS pixels. An image at that limit takes up to 0.6 GB while it is decoded, and
    1.2 GB in JPEG 2000.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            mode = image.mode
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS:,}")
            if max(image.size) > MOST_SIDE:
                raise ValueError(f"{image.width}x{image.height} pixels: a side is longer than {MOST_SIDE:,}")
            image.load()
            # Of odd EXIF data, which is written back after the image was turned.
            with suppress(SyntaxError, TypeError, ValueError, OverflowError, struct.error):
                ImageOps.exif_transpose(image, in_place=True)
            return Decoded(_letterboxed(_rgb(image), size), *image.size, mode)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"more than {MOST_PIXELS:,} pixels") from None
    except MemoryError:  # says more about the machine than about the file
        raise
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _letterboxed(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The whole image on a black square; ImageOps.pad would lose one that is a few pixels wide."""
    width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
    square = Image.new("RGB", (size, size))
    fitted = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square, np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, or in L where it has more than 8 bits a pixel in one channel; converted in strips."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    rows = max(1, STRIP // image.width)
    boxes = [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        highest = max(_levels(image.crop(box)).max() for box in boxes)
        # Of floats up to 1 a little more may be left by resampling; integers may have more than 16 bits.
        top = max(65535.0, highest) if highest > 255 else 1.0 if image.mode == "F" and highest <= 1.5 else 255.0
        converted = Image.new("L", image.size)
        for box in boxes:  # scaled by hand, because Pillow would clip
            levels = _levels(image.crop(box)).clip(0, top) / top * 255
            converted.paste(Image.fromarray(levels.round().astype(np.uint8)), box)
        return converted
    converted = Image.new("RGB", image.size)
    for box in boxes:
        strip = image.crop(box)
        if strip.has_transparency_data:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "black"), strip)
        converted.paste(strip.convert("RGB"), box)
    return converted


def _levels(strip: Image.Image) -> NDArray[np.float64]:
    """The grey levels [h, w] as they are stored; what is not a number counts as 0."""
    return np.nan_to_num(np.asarray(strip, np.float64), nan=0.0)


def png_base64(pixels: NDArray[np.uint8]) -> str:
    """An image [h, w, 3] as a PNG file in base64."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()
