"""Where images come from: Kaggle, an archive, a folder, or the renderer.

Each source is a function that puts {train,valid}/{Car,Truck}/* into an empty folder and returns
what is worth remembering about where that came from. It raises Unreachable when it cannot be had
from here and now (the next source is tried), and Failure when it is there but wrong.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from rich.progress import track

from car_or_truck import files, images, renderer
from car_or_truck.errors import Failure
from car_or_truck.params import Archive, Data, Directory, Kaggle, Rendered

CONNECT_SECONDS, READ_SECONDS = 10, 60  # without an answer for so long, a server counts as out of reach


class Unreachable(Exception):
    """The source cannot be reached from here and now; says why."""


def get(source: str, data: Data, into: Path) -> dict[str, Any]:
    """Fetch from `source` (one of data.sources) into the empty folder `into`."""
    if source == "kaggle":
        return kaggle(data.kaggle, into)
    if source == "archive":
        return archive(data.archive, into)
    if source == "directory":
        return directory(data.directory, into)
    return rendered(data.rendered, into)


def kaggle(settings: Kaggle, into: Path) -> dict[str, Any]:
    """Download the data set with kagglehub, anonymously or with the user's credentials."""
    import kagglehub
    import requests
    from kagglehub.exceptions import DataCorruptionError

    where = f"kaggle.com/datasets/{settings.dataset}"
    try:
        found = Path(kagglehub.dataset_download(settings.dataset))
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Unreachable(_reason(error)) from None
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status >= 500 or status == 429:
            raise Unreachable(f"the server answers {status}") from None
        raise Failure(
            f"Kaggle refuses {where} ({status}). Check data.kaggle.dataset and your Kaggle credentials."
        ) from None
    except DataCorruptionError as error:
        raise Failure(f"The download of {where} arrived damaged ({error}). Run `make data` to try again.") from None
    _copy(_layout(found, where), into)
    version = re.search(r"versions/(\d+)", found.as_posix())
    return {"dataset": settings.dataset, "version": int(version.group(1)) if version else None}


def archive(settings: Archive, into: Path) -> dict[str, Any]:
    """Unpack a zip or tar, local or downloaded through fsspec, after checking its sha256."""
    url = str(settings.url)
    unpacked, downloaded = into / ".unpacked", into / ".downloaded"
    if "://" in url:
        _download(url, downloaded)
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
    try:
        _unpack(local, unpacked)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Failure(f"{url} is no whole zip or tar archive: {_reason(error)}") from None
    _move(_layout(unpacked, url), into)
    shutil.rmtree(unpacked)
    downloaded.unlink(missing_ok=True)
    return {"url": url, "sha256": found}


def directory(settings: Directory, into: Path) -> dict[str, Any]:
    """Copy a folder of the user's own."""
    path = Path(str(settings.path)).expanduser()
    if not path.is_dir():
        raise Unreachable(f"there is no folder {settings.path}")
    _copy(_layout(path, str(settings.path)), into)
    return {"path": str(settings.path)}


def rendered(settings: Rendered, into: Path) -> dict[str, Any]:
    """Draw the stand-in."""
    for split, count in (("train", settings.train), ("valid", settings.valid)):
        for name in images.CLASSES:
            (into / split / name).mkdir(parents=True)
        for number in track(range(count), f"Drawing {count} {split} images"):
            label = images.CLASSES[renderer.is_truck(number)]
            picture = renderer.draw(settings.seed, split, number)
            picture.save(into / split / label / f"{number:05d}.jpeg", quality=90)
    return settings.model_dump()


def _layout(folder: Path, where: str) -> Path:
    """The folder at or below `folder` that holds train/ and valid/, wherever it is nested."""
    holders = [path.parent for path in [folder / "train", *sorted(folder.rglob("train"))] if path.is_dir()]
    holders.sort(key=lambda path: (not (path / "valid").is_dir(), len(path.parts)))
    root = holders[0] if holders else folder
    images.check_layout(root, where)
    return root


def _image_files(root: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    for split in images.SPLITS:
        for label, name in enumerate(images.CLASSES):
            for path in images.files_of(root, split, label):
                yield path, PurePosixPath(split, name, path.name)


def _copy(root: Path, into: Path) -> None:
    found = list(_image_files(root))
    for path, name in track(found, f"Copying {len(found)} images"):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / name)


def _move(root: Path, into: Path) -> None:
    for path, name in _image_files(root):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(into / name)


def _unpack(path: Path, into: Path) -> None:
    """Unpack the regular files of a zip or tar; an entry that would leave `into` is refused."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            for entry in track(entries, f"Unpacking {len(entries)} files"):
                _refuse_escape(entry.filename)
                opened.extract(entry, into)  # also checks its CRC
        return
    with tarfile.open(path) as packed:  # whatever its compression
        for member in packed:
            _refuse_escape(member.name)
            if member.isfile():
                packed.extract(member, into, filter="data")
            elif not member.isdir():
                raise ValueError(f"its entry {member.name!r} is neither a file nor a folder")


def _refuse_escape(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", name):
        raise ValueError(f"its entry {name!r} points outside of it")


def _download(url: str, to: Path) -> None:
    import aiohttp
    import fsspec
    from fsspec.callbacks import TqdmCallback

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        options["client_kwargs"] = {"timeout": limits}
    try:
        system, path = fsspec.url_to_fs(url, **options)
        bar = TqdmCallback(tqdm_kwargs={"desc": f"Downloading {url}", "unit": "B", "unit_scale": True})
        system.get_file(path, str(to), callback=bar)
    except FileNotFoundError:
        raise Failure(f"There is nothing at {url} (data.archive.url).") from None
    except (ImportError, ValueError) as error:
        raise Failure(f"{url} cannot be opened: {_reason(error)}") from None
    except aiohttp.ClientResponseError as error:
        if error.status >= 500 or error.status == 429:
            raise Unreachable(f"the server answers {error.status}") from None
        raise Failure(f"{url} is refused: the server answers {error.status} {error.message}.") from None
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise Unreachable(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """The heart of an error's message, in one line: network libraries wrap it several times."""
    text = " ".join(str(error).split()) or type(error).__name__
    deepest = re.findall(r"(Failed to resolve '[^']*'|Connection refused|timed out|Network is unreachable)", text)
    return deepest[-1] if deepest else text[:300]
