"""Image files as arrays, and where the classes' folders are.

What is here decides the arrays that every model is trained on, so `prepare` depends on it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from car_or_truck.errors import Failure

CLASSES = ("Car", "Truck")  # a label is the index into this
SPLITS = ("train", "valid")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its ending, in any case; hidden files are not."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def files_of(folder: Path, split: str, label: int) -> list[Path]:
    """The image files of one class of one split, sorted by name (in the order of their bytes)."""
    found = (path for path in (folder / split / CLASSES[label]).glob("*") if is_image(path.name) and path.is_file())
    return sorted(found, key=lambda path: path.name.encode("utf-8", "surrogateescape"))


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """The picture as it looks to a person, letterboxed to [size, size, 3], RGB, 0 to 255.

    Raises ValueError with the reason when the file is not a whole picture.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            picture = _rgb(upright)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError("not an image" if isinstance(error, UnidentifiedImageError) else str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    if picture.size != (size, size):
        picture = _letterboxed(picture, size)
    return np.asarray(picture, np.uint8)


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
        picture = Image.fromarray((levels / max(levels.max(), 255.0) * 255).astype(np.uint8))
    if picture.has_transparency_data:  # over black, as the letterbox bars are
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture).convert("RGB")
    return picture.convert("RGB")


def check_layout(folder: Path, where: str) -> dict[str, dict[str, int]]:
    """How many images each class of each split holds: {split: {class: count}}.

    Raises Failure when a split or a class is missing or empty; `where` names the data to the person.
    """
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        if not (folder / split).is_dir():
            raise Failure(f"{where} has no folder {split}/; it must hold {_expected()}. It holds: {_listing(folder)}")
        counts[split] = {}
        for label, name in enumerate(CLASSES):
            if not (folder / split / name).is_dir():
                held = _listing(folder / split)
                raise Failure(
                    f"{where} has no folder {split}/{name}/; it must hold {_expected()}. {split}/ holds: {held}"
                )
            counts[split][name] = len(files_of(folder, split, label))
            if not counts[split][name]:
                raise Failure(f"{where} has no image in {split}/{name}/ (looked for {', '.join(sorted(SUFFIXES))}).")
    return counts


def _expected() -> str:
    return "{train,valid}/{" + ",".join(CLASSES) + "}/"


def _listing(folder: Path, most: int = 6) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "") or "nothing"
