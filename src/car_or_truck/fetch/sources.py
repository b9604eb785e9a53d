"""Where images come from: Kaggle, an archive, a folder, or the project itself, which draws some.

Each source is a function that puts {train,valid}/CLASS/* into an empty folder and returns where
they came from, for SOURCE.json. It raises Unreachable when the source cannot be reached from here
and now (the next one is tried), and Failure when it can, but is wrong.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from car_or_truck.fetch.archives import unpack
from car_or_truck.fetch.download import Unreachable, download_from_kaggle, download_url, mask_secrets
from car_or_truck.fetch.standin import draw as renderer

if TYPE_CHECKING:
    from car_or_truck.params import Data

# What version 1 of the default data set holds on Kaggle; other counts deserve a warning.
KNOWN_COUNTS = {
    "ryanholbrook/car-or-truck": {"train": {"Car": 2961, "Truck": 2156}, "valid": {"Car": 2922, "Truck": 2129}}
}

console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)  # names may look like markup


def get(source: str, data: Data, into: Path) -> dict[str, Any]:
    """Fetch from `source` (one of data.sources) into the empty folder `into`; returns where the images came from."""
    return {"kaggle": kaggle, "archive": archive, "directory": directory, "rendered": rendered}[source](data, into)


def kaggle(data: Data, into: Path) -> dict[str, Any]:
    """Download the data set with kagglehub, anonymously or with the user's credentials."""
    dataset = data.kaggle.dataset
    where = f"kaggle.com/datasets/{dataset}"
    folder, version = download_from_kaggle(dataset)
    _place(folder, where, data, into, shutil.copyfile)
    published_counts = KNOWN_COUNTS.get("/".join(dataset.split("/")[:2]))
    counts = folders.count_images(into, data.classes, where)
    if published_counts and counts != published_counts:
        console.print(
            f"kaggle: {where} (version {version}) holds {counts}; the published results are of {published_counts}, so "
            "yours will differ.",
            style="yellow",
        )
    return {"dataset": dataset, "version": version}


def archive(data: Data, into: Path) -> dict[str, Any]:
    """Unpack a zip or tar, local or downloaded through fsspec, after checking its sha256."""
    settings, url = data.archive, str(data.archive.url)
    unpacked, downloaded = into / ".unpacked", into / ".downloaded"
    if "://" in url:
        shown_url, path = mask_secrets(url), downloaded
        download_url(url, downloaded)
    else:
        shown_url, path = url, _own_path(url)
        if not os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises OSError for a name that is too long)
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", url):  # http:/slip, or data:
                raise Failure(
                    f"data.archive.url is {mask_secrets(url)[:60]}, which names no archive. "
                    "Allowed: a path, or a URL with :// (http, https, s3, gs, or another protocol of fsspec)."
                )
            if path.is_dir():
                raise Failure(f"data.archive.url is {url}, a folder. Name it in data.directory.path.")
            raise Unreachable(f"there is no file {url}")
    checksum = files.sha256(path)
    if settings.sha256 and checksum != settings.sha256.lower():
        raise Failure(
            f"data.archive.sha256 is {settings.sha256}, but {shown_url} has {checksum}. "
            "If that file is the right one, put its checksum there; if not, fetch it anew."
        )
    unpack(path, unpacked, shown_url, settings.max_files, settings.max_gigabytes)
    _place(unpacked, shown_url, data, into, Path.rename)
    shutil.rmtree(unpacked)
    downloaded.unlink(missing_ok=True)
    return {"url": shown_url, "sha256": checksum}


def directory(data: Data, into: Path) -> dict[str, Any]:
    """Copy a folder of the user's own."""
    path = _own_path(str(data.directory.path))
    if not path.is_dir():
        if path.is_file():
            raise Failure(f"data.directory.path is {data.directory.path}, a file. Name an archive in data.archive.url.")
        raise Unreachable(f"there is no folder {data.directory.path}")
    _place(path, str(data.directory.path), data, into, shutil.copyfile)
    return {"path": str(data.directory.path)}


def _own_path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises where ~name is nobody)


def rendered(data: Data, into: Path) -> dict[str, Any]:
    """Draw the synthetic images."""
    settings = data.rendered
    for split, count in (("train", settings.train), ("valid", settings.valid)):
        for name in data.classes:
            (into / split / name).mkdir(parents=True)
        for number in track(range(count), f"Drawing {count} {folders.split_name(split)} images"):
            label = data.classes[renderer.is_truck(number)]
            image = renderer.draw(settings.seed, split, number)
            image.save(into / split / label / f"{number:05d}.jpeg", quality=90)
    return settings.model_dump()


def _place(folder: Path, where: str, data: Data, into: Path, put: Callable[[Path, Path], Any]) -> None:
    """Put the images of `folder`, wherever they are nested in it, into {train,valid}/CLASS/ of `into`."""
    root, splits = folders.find_root(folder, data.classes, where)
    raw = into.with_suffix("").resolve()  # without .part
    if raw in (root.resolve(), *root.resolve().parents):
        raise Failure(f"{where} leads to {raw}, where `fetch` itself puts images. Name the folder of your own.")
    if len(splits) == 1 and data.valid_fraction is None:
        folders.count_images(root, data.classes, where)  # says what is missing
    folders.count_images(root, data.classes, where, splits)
    if len(splits) == 2 and splits != folders.SPLITS:
        console.print(f"{where}: {splits[1]}/ is taken as the validation set.")
    for name, count in folders.count_others(root, data.classes, splits).items():
        shown_name = folders.storable_name(name)
        console.print(f"{where}: left out {count} file(s) that are not images of either class: {shown_name}")
    taken_from = {root / split for split in splits}
    outside = sum(taken_from.isdisjoint((folder / name).parents) for name in folders.images_below(folder))
    if outside:
        taken = " and ".join(folders.storable_name(f"{(root / split).relative_to(folder)}/") for split in splits)
        console.print(f"{where}: left out {outside} image(s) outside of {taken}")
    entries = list(_entries(root, splits, data))
    for source, target in track(entries, f"Placing {len(entries)} images"):
        path = into / folders.storable_name(str(target))
        if path.exists():
            raise Failure(f"{where} has two images that would be {path.relative_to(into)}. Rename one of them.")
        path.parent.mkdir(parents=True, exist_ok=True)
        put(source, path)
    for split in folders.SPLITS:
        for name in data.classes:
            if len(splits) == 1 and not (into / split / name).is_dir():
                raise Failure(
                    f"data.valid_fraction is {data.valid_fraction}, which leaves no {name} in "
                    f"{folders.split_name(split)}. Change it, or add images."
                )


def _entries(root: Path, splits: tuple[str, ...], data: Data) -> Iterator[tuple[Path, PurePosixPath]]:
    """(file, name below `into`) of every image; without a validation set, the file's content decides its split."""
    for split, _, name in folders.list_images(root, data.classes, splits):
        path = root / split / name
        if len(splits) == 2:
            target = "train" if split == "train" else "valid"
        else:
            share = folders.content_share(files.sha256(path), "valid")
            target = "valid" if share < (data.valid_fraction or 0) else "train"
        yield path, PurePosixPath(target) / name
