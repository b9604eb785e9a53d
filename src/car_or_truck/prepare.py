"""Stage `prepare`: decodes the images once, to arrays that training maps into memory.

Files that are no whole picture are listed in reports/data/audit.json and left out; only a class
that would be left empty stops the stage.
"""

from __future__ import annotations

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from car_or_truck import figures, files, images
from car_or_truck.errors import Failure
from car_or_truck.layout import AUDIT, PREPARED, RAW, SOURCE

CHUNK = 512  # images decoded at a time: bounds the memory

console = Console(stderr=True)


def prepare(size: int, raw: Path = RAW, prepared: Path = PREPARED, audit: Path = AUDIT) -> dict[str, Any]:
    """Decode `raw` to `prepared`, pictures of size x size; returns the audit that it writes."""
    source = files.read_json(raw / SOURCE.name, "Run `make data` to fetch the images again.")
    images.check_layout(raw, str(raw))
    undecodable: list[dict[str, str]] = []
    counts: dict[str, dict[str, int]] = {}
    names: list[tuple[str, str]] = []
    arrays: dict[str, str] = {}  # the sha256 of each split's pixels: what training really sees
    with files.whole_folder(prepared) as folder:
        for split in images.SPLITS:
            (folder / split).mkdir()
            rows, broken, arrays[split] = _decode_split(raw, split, size, folder / split)
            undecodable += broken
            names += [(f"{split}/{name}", checksum) for name, _, checksum in rows]
            counts[split] = {name: sum(row[1] == label for row in rows) for label, name in enumerate(images.CLASSES)}
            for name, count in counts[split].items():
                if not count:
                    raise Failure(
                        f"No image in {raw}/{split}/{name}/ can be decoded (the first: {broken[0]['name']}: "
                        f"{broken[0]['reason']}). Fetch them again with `make data`."
                    )
        digest = files.content_digest(names)
        dataset = {
            "source": source["source"],
            "stand_in": source["stand_in"],
            "digest": digest,
            "arrays": arrays,
            "image_size": size,
            "counts": counts,
        }
        files.write_json(folder / "dataset.json", dataset)

    report = {**dataset, "raw_digest": source["digest"], "undecodable": undecodable}
    with files.whole_folder(audit) as folder:
        files.write_json(folder / "audit.json", report)
        for split in images.SPLITS:
            _sheet(prepared / split, split, dataset, folder / f"{split}.png")
    for item in undecodable:
        console.print(f"left out {item['name']}: {item['reason']}", highlight=False, markup=False)
    console.print(f"Prepared {len(names)} images of {size}x{size} px, {len(undecodable)} left out.", highlight=False)
    return report


def _decode_split(
    raw: Path, split: str, size: int, folder: Path
) -> tuple[list[tuple[str, int, str]], list[dict[str, str]], str]:
    """Write images.npy, labels.npy and index.csv.

    Returns (name, label, sha256) of each image, what is broken, and the sha256 of all pixels.
    """
    found = [(path, label) for label in range(len(images.CLASSES)) for path in images.files_of(raw, split, label)]
    rows: list[tuple[str, int, str]] = []
    broken: list[dict[str, str]] = []
    digest = hashlib.sha256()

    def read(item: tuple[Path, int]) -> tuple[str, NDArray[np.uint8] | str]:
        try:
            return files.sha256(item[0]), images.decode(item[0], size)
        except ValueError as error:
            return "", str(error)

    # Written as one stream with the .npy header first, so the array is never whole in memory. The
    # header's count is only known at the end; numpy pads it to a size that does not depend on it.
    with (folder / "images.npy").open("wb") as file, ThreadPoolExecutor() as pool:
        _npy_header(file, (len(found), size, size, 3))
        for start in track(range(0, len(found), CHUNK), f"Decoding {len(found)} {split} images"):
            chunk = found[start : start + CHUNK]
            for (path, label), (checksum, result) in zip(chunk, pool.map(read, chunk), strict=True):
                name = f"{images.CLASSES[label]}/{path.name}"
                if isinstance(result, str):
                    broken.append({"name": f"{split}/{name}", "reason": result})
                else:
                    file.write(pixels := result.tobytes())
                    digest.update(pixels)
                    rows.append((name, label, checksum))
        file.seek(0)
        _npy_header(file, (len(rows), size, size, 3))
    np.save(folder / "labels.npy", np.array([row[1] for row in rows], np.uint8))
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as index:
        writer = csv.writer(index, lineterminator="\n")
        writer.writerow(["name", "label", "sha256"])
        writer.writerows(rows)
    return rows, broken, digest.hexdigest()


def _npy_header(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _sheet(folder: Path, split: str, dataset: dict[str, Any], path: Path) -> None:
    """A contact sheet: evenly spaced images of each class."""
    pictures = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    rows = {}
    for label, name in enumerate(images.CLASSES):
        of_class = np.flatnonzero(labels == label)
        chosen = of_class[np.linspace(0, of_class.size - 1, min(24, of_class.size)).astype(int)]
        rows[f"{name} ({of_class.size})"] = pictures[chosen]
    kind = " (the drawn stand-in)" if dataset["stand_in"] else ""
    figures.contact_sheet(rows, f"What the {split} images look like{kind}", path)
