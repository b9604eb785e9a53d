"""Archives, unpacked without trusting what they hold."""

from __future__ import annotations

import errno
import re
import shutil
import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from rich.progress import track

from car_or_truck.errors import Failure, summarize

DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, ValueError, IndexError,
    OverflowError,
)  # fmt: skip


def unpack(path: Path, into: Path, where: str, max_files: int, max_gigabytes: float) -> None:
    """Unpack the regular files of a zip or tar (plain, or in gzip, bzip2 or xz) into a new folder.

    Raises Failure when it is not a complete archive, when an entry points outside it or is a link or a
    device, and when it holds more files or gigabytes (1e9 bytes) than allowed. `where` names the
    archive in the message.
    """
    allowance = _Allowance(max_files, max_gigabytes)
    try:
        if tarfile.is_tarfile(path):  # first, because a tar whose last member is a zip looks like a zip too
            _untar(path, into, allowance)
        else:
            _unzip(path, into, allowance)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk's
            raise
        raise Failure(f"{where} is not a complete zip or tar archive: {summarize(error, 200)}") from None
    except RuntimeError as error:  # what zipfile raises for a password, or a compression that it does not know
        raise Failure(f"{where} cannot be unpacked: {error}. Pack it anew, for instance by `zip -r`.") from None
    except _Refused as error:
        raise Failure(f"{where} is refused: {error}.") from None


class _Refused(Exception):
    """The archive is complete, but must not be unpacked."""


class _Allowance:
    """Counts what is unpacked, by the sizes that the archive states; its readers enforce them."""

    def __init__(self, max_files: int, max_gigabytes: float) -> None:
        self.max_files, self.max_bytes = max_files, max_gigabytes * 1e9
        self.files, self.bytes = 0, 0

    def take(self, size: int) -> None:
        self.files, self.bytes = self.files + 1, self.bytes + size
        if self.files > self.max_files:
            raise _Refused(f"it holds more than {self.max_files} files (data.archive.max_files)")
        if self.bytes > self.max_bytes:
            raise _Refused(f"it unpacks to more than {self.max_bytes / 1e9:g} GB (data.archive.max_gigabytes)")


def _unzip(path: Path, into: Path, allowance: _Allowance) -> None:
    with zipfile.ZipFile(path) as opened:
        for entry in opened.infolist():
            entry.filename = entry.filename.replace("\\", "/")  # as some programs on Windows write it
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
        for entry in entries:
            _refuse_escape(entry.filename)
            if (entry.external_attr >> 16) & 0o170000 == 0o120000:
                raise _Refused(f"its entry {entry.filename!r} is a link")
            allowance.take(entry.file_size)
        for entry in track(entries, f"Unpacking {len(entries)} files"):
            opened.extract(entry, into)  # also checks its CRC


def _untar(path: Path, into: Path, allowance: _Allowance) -> None:
    with tarfile.open(path) as opened:
        for member in opened:
            _refuse_escape(member.name)
            if member.isfile():
                allowance.take(member.size)
                _write(opened, member, into / member.name)
            elif not member.isdir():
                advice = "`tar --dereference --hard-dereference` packs files instead of links"
                raise _Refused(f"its entry {member.name!r} is neither a file nor a folder; {advice}")
        _check_end(opened)


def _check_end(opened: tarfile.TarFile) -> None:
    """Raise ReadError unless the archive ends where its entries do: tarfile takes a broken header for the end."""
    rest = opened.fileobj
    assert rest is not None, "an open archive"
    rest.seek(opened.offset)
    if rest.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it breaks off or is damaged")
    while rest.read(1 << 20):  # a compressed one has its checksum at the very end
        pass


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write a member's content without its owner and mode; extraction filters are missing before Python 3.11.4."""
    content = opened.extractfile(member)
    assert content is not None, "a regular file"
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)


def _refuse_escape(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", name):
        raise _Refused(f"its entry {name!r} points outside it")
