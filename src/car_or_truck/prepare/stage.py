"""Stage `prepare`: audits the images and decodes them once, to arrays that training maps into memory.

Files that are no whole picture are listed in reports/data/audit.json and left out; only a class
that would be left empty stops the stage. A train image that is also in valid leaves train
(data.leaks), and a share of valid may be set apart as a test split (data.test_fraction).
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from car_or_truck.params import Data
from car_or_truck.paths import AUDIT, PREPARED, RAW, SOURCE
from car_or_truck.prepare import images
from car_or_truck.prepare.audit import audit, measure
from car_or_truck.prepare.figures import draw

CHUNK = 512  # images decoded at a time: bounds the memory

console = Console(stderr=True)


def prepare(data: Data, raw: Path = RAW, prepared: Path = PREPARED, reports: Path = AUDIT) -> dict[str, Any]:
    """Write the arrays to `prepared`, the audit and its figures to `reports`; returns the audit."""
    source = files.read_json(raw / SOURCE.name, "Run `make data` to fetch the images again.")
    if source["classes"] != list(data.classes):
        raise Failure(f"{raw} holds {source['classes']}, not data.classes. Run `make data` to fetch them again.")
    folders.check(raw, data.classes, str(raw))
    everything = _listed(raw, data.classes)
    dropped = _leaks(everything, data.leaks)
    entries = everything[~everything["name"].isin(dropped)].copy()
    shares = entries["sha256"].map(lambda checksum: files.share(checksum, "test"))
    entries.loc[(entries["split"] == "valid") & (shares < data.test_fraction), "split"] = "test"

    splits = ["train", "valid"] + ["test"] * bool(data.test_fraction)
    tables, undecodable, arrays = [], [], {}
    with files.whole_folder(prepared) as folder:
        for split in splits:
            part = entries[entries["split"] == split]
            table, broken, arrays[split] = _decode_split(raw, part, data.image_size, folder / split)
            tables.append(table)
            undecodable += broken
            _no_empty_class(table, data.classes, raw, split, broken)
        kept = pd.concat(tables, ignore_index=True)
        counts = {
            split: {name: int((table["label"] == label).sum()) for label, name in enumerate(data.classes)}
            for split, table in zip(splits, tables, strict=True)
        }
        dataset = {
            "source": source["source"],
            "stand_in": source["stand_in"],
            "digest": files.content_digest(zip(kept["name"], kept["sha256"], strict=True)),
            "raw_digest": source["digest"],
            "arrays": arrays,
            "image_size": data.image_size,
            "classes": list(data.classes),
            "counts": counts,
        }
        files.write_json(folder / "dataset.json", dataset)

    report = {**dataset, **audit(everything, kept, dropped, undecodable)}
    with files.whole_folder(reports) as folder:
        files.write_json(folder / "audit.json", report)
        draw(report, kept, prepared, folder)
    _announce(report)
    return report


def _listed(raw: Path, classes: Any) -> pd.DataFrame:
    """name (with its split), split, label and sha256 of every fetched image."""
    found = list(folders.images_of(raw, classes))
    names = [f"{split}/{name}" for split, _, name in found]
    with ThreadPoolExecutor() as pool:
        checksums = list(pool.map(lambda name: files.sha256(raw / name), names))
    splits, labels = [item[0] for item in found], [item[1] for item in found]
    return pd.DataFrame({"name": names, "split": splits, "label": labels, "sha256": checksums})


def _leaks(everything: pd.DataFrame, policy: str) -> list[str]:
    """The train images to drop: those that are byte-identical to one in valid."""
    valid = set(everything.loc[everything["split"] == "valid", "sha256"])
    leaked = everything.loc[(everything["split"] == "train") & everything["sha256"].isin(valid), "name"].tolist()
    if leaked and policy == "fail":
        raise Failure(
            f"{len(leaked)} train images are also in valid (the first: {leaked[0]}). "
            "Remove them, or set data.leaks to drop or keep."
        )
    return leaked if policy == "drop" else []


def _no_empty_class(table: pd.DataFrame, classes: Any, raw: Path, split: str, broken: list[dict[str, str]]) -> None:
    for label, name in enumerate(classes):
        if not (table["label"] == label).any():
            first = f"; the first undecodable: {broken[0]['name']}: {broken[0]['reason']}" if broken else ""
            raise Failure(
                f"No image of {name} is left in {split} (decoded from {raw}{first}). "
                "Fetch them again with `make data`, or change data.test_fraction or data.valid_fraction."
            )


def _decode_split(
    raw: Path, part: pd.DataFrame, size: int, folder: Path
) -> tuple[pd.DataFrame, list[dict[str, str]], str]:
    """Write images.npy, labels.npy and index.csv.

    Returns a row for each image with what was read and measured, what is broken, and the sha256 of
    all pixels.
    """
    folder.mkdir()
    digest = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []

    def read(name: str) -> tuple[images.Decoded, dict[str, Any]] | str:
        try:
            decoded = images.decode(raw / name, size)
        except ValueError as error:
            return str(error)
        return decoded, measure(decoded.pixels)._asdict()

    # Written as one stream with the .npy header first, so the array is never whole in memory. The
    # header's count is only known at the end; numpy pads it to a size that does not depend on it.
    entries = part.to_dict("records")
    with (folder / "images.npy").open("wb") as file, ThreadPoolExecutor() as pool:
        _npy_header(file, (len(entries), size, size, 3))
        for start in track(range(0, len(entries), CHUNK), f"Decoding {len(entries)} {folder.name} images"):
            chunk = entries[start : start + CHUNK]
            for entry, result in zip(chunk, pool.map(read, [item["name"] for item in chunk]), strict=True):
                if isinstance(result, str):
                    broken.append({"name": entry["name"], "reason": result})
                    continue
                decoded, measures = result
                file.write(pixels := decoded.pixels.tobytes())
                digest.update(pixels)
                about = {"width": decoded.width, "height": decoded.height, "mode": decoded.mode}
                rows.append({**entry, **about, **measures})
        file.seek(0)
        _npy_header(file, (len(rows), size, size, 3))
    columns = [*part.columns, "width", "height", "mode", "brightness", "contrast", "red", "green", "blue", "content"]
    table = pd.DataFrame(rows, columns=[*columns, "phash"])
    np.save(folder / "labels.npy", table["label"].to_numpy(np.uint8))
    index = table[["name", "label", "sha256"]].assign(name=table["name"].str.partition("/")[2])
    index.to_csv(folder / "index.csv", index=False, lineterminator="\n")
    return table, broken, digest.hexdigest()


def _npy_header(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _announce(report: dict[str, Any]) -> None:
    for item in report["undecodable"]:
        console.print(f"left out {item['name']}: {item['reason']}", highlight=False, markup=False)
    findings = {
        "undecodable": "undecodable",
        "identical": "byte-identical pairs",
        "leaks": "of them across train and valid",
        "dropped": "dropped from train",
        "conflicts": "pairs with conflicting labels",
        "near_duplicates": "near-duplicate pairs",
        "constant": "blank",
        "dark": "very dark",
        "bright": "very bright",
    }
    said = ", ".join(f"{len(report[key])} {words}" for key, words in findings.items() if report[key])
    total = sum(sum(counts.values()) for counts in report["counts"].values())
    console.print(
        f"Prepared {total} images of {report['image_size']}x{report['image_size']} px. "
        f"Audit: {said or 'nothing to remark'} (reports/data/audit.json).",
        highlight=False,
    )
