"""The folders that hold images: {train,valid}/CLASS/*, in any depth below the class."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from car_or_truck.errors import Failure

SPLITS = ("train", "valid")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})


def is_image(path: Path) -> bool:
    """Whether a file is taken for an image: by its ending, in any case; hidden ones and macOS's shadows are not."""
    return path.suffix.lower() in SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def images_below(folder: Path) -> list[PurePosixPath]:
    """The image files in and below a folder, relative to it, sorted by the bytes of their names."""
    found = (path for path in folder.rglob("*") if is_image(path.relative_to(folder)) and path.is_file())
    return sorted(
        (PurePosixPath(path.relative_to(folder)) for path in found),
        key=lambda name: str(name).encode("utf-8", "surrogateescape"),
    )


def images_of(
    root: Path, classes: Sequence[str], splits: Sequence[str] = SPLITS
) -> Iterator[tuple[str, int, PurePosixPath]]:
    """(split, label, name below the split) of every image, in a fixed order."""
    for split in splits:
        for label, name in enumerate(classes):
            for path in images_below(root / split / name):
                yield split, label, PurePosixPath(name) / path


def check(root: Path, classes: Sequence[str], where: str, splits: Sequence[str] = SPLITS) -> dict[str, dict[str, int]]:
    """How many images each class of each split holds: {split: {class: count}}.

    Raises Failure when a split or a class is missing or empty; `where` names the data to the person.
    """
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        _demand(root, split, root, where, classes)
        counts[split] = {}
        for name in classes:
            _demand(root / split, name, root, where, classes)
            counts[split][name] = len(images_below(root / split / name))
            if not counts[split][name]:
                raise Failure(f"{where} has no image in {split}/{name}/ (looked for {', '.join(sorted(SUFFIXES))}).")
    return counts


def _demand(parent: Path, name: str, root: Path, where: str, classes: Sequence[str]) -> None:
    if (parent / name).is_dir():
        return
    path = (parent / name).relative_to(root).as_posix()
    names = sorted(item.name for item in parent.iterdir() if item.is_dir()) if parent.is_dir() else []
    near = difflib.get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    hint = f" Is it {near[0]}/?" if near else ""
    held = parent.relative_to(root).as_posix() if parent != root else "it"
    raise Failure(
        f"{where} has no folder {path}/; it must hold {{train,valid}}/{{{','.join(classes)}}}/.{hint} "
        f"{held} holds: {_listing(parent)}. Other class names go into data.classes."
    )


def _listing(folder: Path, most: int = 6) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "") or "nothing"


def ignored(root: Path, classes: Sequence[str], splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """What the splits hold besides images of the classes: {"train/Bus": files below it, ...}."""
    found: dict[str, int] = {}
    for split in splits:
        for path in sorted((root / split).rglob("*")):
            name = path.relative_to(root / split)
            if path.is_file() and not (name.parts[0] in classes and len(name.parts) > 1 and is_image(name)):
                key = "/".join((split, *name.parts[:1])) + ("" if len(name.parts) == 1 else "/")
                found[key] = found.get(key, 0) + 1
    return found


def find_root(folder: Path, classes: Sequence[str], where: str) -> tuple[Path, Sequence[str]]:
    """Where train/ (and valid/) lie at or below `folder`, however nested, and which splits are there.

    The splits are SPLITS, ("train",), or ("",) where the classes' folders lie there without any split.
    """
    below = [path for path in (folder, *sorted(folder.rglob("*"))) if path.is_dir() and is_plain(path, folder)]
    for splits in (SPLITS, ("train",), ("",)):
        for path in sorted(below, key=lambda path: len(path.parts)):
            wanted = [path / split for split in splits] if splits != ("",) else [path / name for name in classes]
            if all(item.is_dir() for item in wanted):
                return path, splits
    raise Failure(
        f"{where} has neither the folders train/ and valid/ nor {' and '.join(f'{name}/' for name in classes)}. "
        f"It holds: {_listing(folder)}"
    )


def is_plain(path: Path, root: Path) -> bool:
    """Whether no part of the path below `root` is hidden or one of macOS's shadow folders."""
    return not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
