"""The folders that hold images: {train,valid}/CLASS/*, at any depth below the class."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from car_or_truck.errors import Failure

SPLITS = ("train", "valid")
VALID_NAMES = ("valid", "val", "validation")  # what a source may call its validation set
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)


def is_image(path: Path) -> bool:
    """Whether a file counts as an image: by its suffix, in any case. Hidden files and macOS's shadows do not."""
    return path.suffix.lower() in SUFFIXES and _is_visible(path)


def _is_visible(path: Path) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def images_below(folder: Path) -> list[PurePosixPath]:
    """The image files in and below a folder, relative to it, sorted by the bytes of their names."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        (PurePosixPath(name) for name in names if is_image(name)),
        key=lambda name: str(name).encode("utf-8", "surrogateescape"),
    )


def list_images(
    root: Path, classes: Sequence[str], splits: Sequence[str] = SPLITS
) -> Iterator[tuple[str, int, PurePosixPath]]:
    """(split, label, name below the split) of every image, in a fixed order."""
    for split in splits:
        for label, name in enumerate(classes):
            for path in images_below(root / split / name):
                yield split, label, PurePosixPath(name) / path


def count_images(
    root: Path, classes: Sequence[str], where: str, splits: Sequence[str] = SPLITS
) -> dict[str, dict[str, int]]:
    """How many images each class of each split holds: {split: {class: count}}.

    Raises Failure when a split or a class is missing or empty; `where` names the data in its message.
    """
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        _require_folder(root, split, where, classes)
        for name in classes:
            _require_folder(root, f"{split}/{name}" if split else name, where, classes)
        counts[split] = {name: len(images_below(root / split / name)) for name in classes}
        for name, count in counts[split].items():
            if not count:
                place = f"{split}/{name}" if split else name
                raise Failure(f"{where} has no image in {place}/ (looked for {', '.join(sorted(SUFFIXES))}).")
    return counts


def count_others(root: Path, classes: Sequence[str], splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """What the splits hold besides images of the classes: {"train/Bus/": files in and below it, ...}.

    Links to folders are such, because nobody looks below them.
    """
    others: dict[str, int] = {}
    for split in splits:
        for path in sorted((root / split).rglob("*")):
            name = path.relative_to(root / split)
            if path.is_dir() and (len(name.parts) == 1 or not path.is_symlink()):
                continue
            if not (path.is_file() and name.parts[0] in classes and len(name.parts) > 1 and is_image(name)):
                key = "".join(f"{part}/" for part in (split, *name.parts[:-1][:1]) if part) or "./"
                others[key] = others.get(key, 0) + 1
    return others


def find_root(folder: Path, classes: Sequence[str], where: str) -> tuple[Path, tuple[str, ...]]:
    """The folder, `folder` or one below it, that holds the splits; and the names of its splits.

    These are ("train", one of VALID_NAMES), or ("train",), or ("",) where the class folders are in no split,
    among them a class that is called train.
    Raises Failure when there is none of them, or more than one validation set.
    """
    below = [path for path in folder.rglob("*") if path.is_dir() and _is_visible(path.relative_to(folder))]
    candidates = sorted((folder, *below), key=lambda path: (len(path.parts), path))
    with_train = [path for path in candidates if (path / "train").is_dir()]
    splits = [path for path in with_train if any((path / "train" / name).is_dir() for name in classes)]
    if not splits:
        unsplit = []
        for path in candidates:  # but not valid/ beside a train/ whose classes are misspelt, nor with train/ in a class
            inside = [path / name for name in classes]
            if path.parent not in with_train and all(place.is_dir() and place not in with_train for place in inside):
                unsplit.append(path)
        beside = [path for path in unsplit if unsplit[0] not in path.parents]
        if len(beside) > 1:
            named = ", ".join(f"{storable_name(path.relative_to(folder).as_posix())}/" for path in beside)
            raise Failure(
                f"{where} has several folders that hold {' and '.join(f'{name}/' for name in classes)}: {named}. "
                "Call them train/ and valid/, or keep one of them."
            )
        if unsplit:
            return unsplit[0], ("",)
        splits = with_train
    for path in splits:
        valid = [name for name in VALID_NAMES if (path / name).is_dir()]
        if len(valid) > 1:
            named = " and ".join(f"{name}/" for name in valid)
            raise Failure(f"{where} has more than one validation set: {named} beside train/. Keep one of them.")
        if valid:
            return path, ("train", *valid)
    if splits:
        return splits[0], ("train",)
    raise Failure(
        f"{where} has neither the folders train/ and valid/ nor {' and '.join(f'{name}/' for name in classes)}. "
        f"It holds: {_listing(folder)}"
    )


def _require_folder(root: Path, name: str, where: str, classes: Sequence[str]) -> None:
    path = root / name
    if path.is_dir():
        return
    parent = path.parent
    siblings = sorted(item.name for item in parent.iterdir() if item.is_dir())
    near = difflib.get_close_matches(path.name, siblings, n=1) or [
        other for other in siblings if other.lower() == path.name.lower()
    ]
    hint = f" Is it {near[0]}/?" if near else ""
    if name == "valid":
        advice = "It may be named val/ or validation/ too, but not test/; data.valid_fraction splits train/ instead."
    else:
        advice = "Other class names go into data.classes; class folders without train/ need data.valid_fraction."
    raise Failure(
        f"{where} has no folder {name}/; it must hold {{train,valid}}/{{{','.join(classes)}}}/.{hint} "
        f"{'it' if parent == root else parent.relative_to(root).as_posix()} holds: {_listing(parent)}. {advice}"
    )


def _listing(folder: Path, most: int = 6) -> str:
    names = sorted(storable_name(path.name) + "/" * path.is_dir() for path in folder.iterdir())
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "") or "nothing"


def storable_name(name: str) -> str:
    """The name with control characters and bytes that are not UTF-8 written as %XX: DVC and CSV cannot hold them."""
    return re.sub(r"[\x00-\x1f\x7f\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) & 0xFF:02X}", name)


def split_name(split: str) -> str:
    """A split as people call it, in messages and figures."""
    return "validation" if split == "valid" else split


def content_share(checksum: str, purpose: str) -> float:
    """A number in [0, 1) that depends on a file's content alone, so a split is stable when images are added."""
    return int(hashlib.sha256(f"{purpose} {checksum}".encode()).hexdigest()[:13], 16) / 16**13
