"""What must be true before a training starts: library versions and the content of a weights file."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from car_or_truck.errors import Failure
from car_or_truck.train.recipe import Base

VERSIONS = Path(__file__).with_name("versions.txt")


def pinned_versions(path: Path = VERSIONS) -> dict[str, str]:
    """The versions of the libraries that decide a model's numbers, by name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line)


def check_versions(pinned: dict[str, str]) -> None:
    """Raise Failure unless exactly the `pinned` versions are installed."""
    for name, wanted in pinned.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "no version"
        if installed != wanted:
            raise Failure(
                f"{name} {wanted} is pinned in {VERSIONS.name}, but {installed} is installed, which may round "
                f"differently. Install requirements.lock, or edit {VERSIONS}, which retrains every model."
            )


def check_weights(base: Base | None) -> None:
    """Raise Failure unless the weights file of `base`, if it has one, exists and has its checksum."""
    if base is None or base.file is None:
        return
    path = Path(base.file).expanduser()
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Failure(
            f"base.weights is {base.weights!r}, which cannot be read ({error.strerror}). "
            "Give the path of a weights file, imagenet (downloaded by Keras) or null (random)."
        ) from None
    if base.sha256 is None or checksum != base.sha256.lower():
        raise Failure(
            f"base.sha256 is {base.sha256}, but {base.weights} has {checksum}. "
            "If that is the right file, put its checksum there; otherwise fetch it again."
        )
