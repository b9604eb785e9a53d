"""Where images come from: Kaggle, an archive, a folder, or the renderer.

Each source is a function that puts {train,valid}/CLASS/* into an empty folder and returns what is
worth remembering about where that came from. It raises Unreachable when it cannot be had from here
and now (the next source is tried), and Failure when it is there but wrong.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console
from rich.progress import track

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from car_or_truck.fetch.archives import unpack
from car_or_truck.fetch.download import Unreachable, from_kaggle, from_url
from car_or_truck.fetch.standin import draw as renderer
from car_or_truck.params import Data

# What Kaggle's version 1 of the default data set holds; another count deserves a warning.
KNOWN_COUNTS = {
    "ryanholbrook/car-or-truck": {"train": {"Car": 2961, "Truck": 2156}, "valid": {"Car": 2922, "Truck": 2129}}
}

console = Console(stderr=True)


def get(source: str, data: Data, into: Path) -> dict[str, Any]:
    """Fetch from `source` (one of data.sources) into the empty folder `into`."""
    fetch: Callable[[Data, Path], dict[str, Any]] = globals()[source]
    return fetch(data, into)


def kaggle(data: Data, into: Path) -> dict[str, Any]:
    """Download the data set with kagglehub, anonymously or with the user's credentials."""
    dataset = data.kaggle.dataset
    where = f"kaggle.com/datasets/{dataset}"
    found, version = from_kaggle(dataset)
    _place(found, where, data, into, shutil.copyfile)
    known = KNOWN_COUNTS.get("/".join(dataset.split("/")[:2]))
    counts = folders.check(into, data.classes, where)
    if known and counts != known:
        console.print(
            f"kaggle: {where} (version {version}) holds {counts}, not {known} as when this was written: "
            "results will differ from those published.",
            style="yellow",
            highlight=False,
        )
    return {"dataset": dataset, "version": version}


def archive(data: Data, into: Path) -> dict[str, Any]:
    """Unpack a zip or tar, local or downloaded through fsspec, after checking its sha256."""
    settings, url = data.archive, str(data.archive.url)
    unpacked, downloaded = into / ".unpacked", into / ".downloaded"
    if "://" in url:
        from_url(url, downloaded)
        local = downloaded
    else:
        local = Path(url).expanduser()
        if not local.is_file():
            raise Unreachable(f"there is no file {url}")
    found = files.sha256(local)
    if settings.sha256 and found != settings.sha256.lower():
        raise Failure(
            f"data.archive.sha256 is {settings.sha256}, but {url} has {found}. "
            "If that file is the right one, put its checksum there; if not, fetch it anew."
        )
    unpack(local, unpacked, url, settings.max_files, settings.max_gigabytes)
    _place(unpacked, url, data, into, Path.rename)
    shutil.rmtree(unpacked)
    downloaded.unlink(missing_ok=True)
    return {"url": url, "sha256": found}


def directory(data: Data, into: Path) -> dict[str, Any]:
    """Copy a folder of the user's own, or hard-link its files."""
    path = Path(str(data.directory.path)).expanduser()
    if not path.is_dir():
        raise Unreachable(f"there is no folder {data.directory.path}")
    _place(path, str(data.directory.path), data, into, _link if data.directory.link else shutil.copyfile)
    return {"path": str(data.directory.path)}


def rendered(data: Data, into: Path) -> dict[str, Any]:
    """Draw the stand-in."""
    settings = data.rendered
    for split, count in (("train", settings.train), ("valid", settings.valid)):
        for name in data.classes:
            (into / split / name).mkdir(parents=True)
        for number in track(range(count), f"Drawing {count} {split} images"):
            label = data.classes[renderer.is_truck(number)]
            picture = renderer.draw(settings.seed, split, number)
            picture.save(into / split / label / f"{number:05d}.jpeg", quality=90)
    return settings.model_dump()


def _place(folder: Path, where: str, data: Data, into: Path, put: Callable[[Path, Path], Any]) -> None:
    """Put the images of `folder`, wherever they are nested in it, into {train,valid}/CLASS/ of `into`."""
    root, splits = folders.find_root(folder, data.classes, where)
    if splits != folders.SPLITS and data.valid_fraction is None:
        folders.check(root, data.classes, where)  # says what is missing
    folders.check(root, data.classes, where, splits)
    for name, count in folders.ignored(root, data.classes, splits).items():
        console.print(f"{where}: left out {count} file(s) that are no images of a class: {name}", highlight=False)
    entries = list(_entries(root, splits, data))
    for source, target in track(entries, f"Placing {len(entries)} images"):
        (into / target).parent.mkdir(parents=True, exist_ok=True)
        put(source, into / target)


def _entries(root: Path, splits: Any, data: Data) -> Iterator[tuple[Path, PurePosixPath]]:
    """(file, name below `into`) of every image; without a valid/, its content decides where it goes."""
    for split, _, name in folders.images_of(root, data.classes, splits):
        path = root / split / name
        target = split
        if splits != folders.SPLITS:
            chosen = files.share(files.sha256(path), "valid") < (data.valid_fraction or 0)
            target = "valid" if chosen else "train"
        yield path, PurePosixPath(target) / name


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        shutil.copyfile(source, target)  # another file system, or one without hard links
