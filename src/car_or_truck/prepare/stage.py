"""Stage `prepare`: audits the images and decodes them once, to arrays that training maps into memory.

Files that cannot be decoded and images that data.exclude lists are left out, and named in
reports/data/audit.json; only a class that would be left empty stops the stage. A training image that
is also in the validation set is dropped from train (data.leaks), and a share of valid may be set apart
as a test split (data.test_fraction).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.progress import track

from car_or_truck import files
from car_or_truck.errors import Failure
from car_or_truck.fetch import folders
from car_or_truck.fetch.folders import split_name
from car_or_truck.fetch.sources import console
from car_or_truck.paths import AUDIT, PREPARED, RAW, SOURCE
from car_or_truck.prepare import images
from car_or_truck.prepare.audit import Measures, audit, leaked_pairs, measure
from car_or_truck.prepare.exclusions import read_exclusions
from car_or_truck.prepare.figures import draw

if TYPE_CHECKING:
    from car_or_truck.params import Data

CHUNK = 512  # decoded images held at a time


def prepare(data: Data, raw: Path = RAW, prepared: Path = PREPARED, reports: Path = AUDIT) -> dict[str, Any]:
    """Write the arrays to `prepared`, the audit and its figures to `reports`; returns the audit."""
    source = _read_source(raw, data.classes)
    folders.count_images(raw, data.classes, str(raw))
    everything, undecodable = _list_images(raw, data.classes)
    # The stand-in takes the place of photographs, whose names the file may list.
    excluded = read_exclusions(Path(data.exclude), set(everything["name"]), skip_unknown=source["stand_in"])
    everything = everything[~everything["name"].isin([item["name"] for item in excluded])]
    dropped = _find_leaks(everything, data.leaks)
    entries = everything[~everything["name"].isin(dropped)].copy()
    shares = entries["sha256"].map(lambda checksum: folders.content_share(checksum, "test"))
    entries.loc[(entries["split"] == "valid") & (shares < data.test_fraction), "split"] = "test"

    splits = ["train", "valid"] + ["test"] * bool(data.test_fraction)
    tables, arrays = [], {}
    with files.whole_folder(prepared) as folder:
        for split in splits:
            part = entries[entries["split"] == split]
            table, broken, arrays[split] = _decode_split(raw, part, data.image_size, folder / split)
            tables.append(table)
            undecodable += broken
            leaks = [{"name": name, "reason": "also in validation, data.leaks: drop"} for name in dropped]
            _refuse_empty_class(table, data.classes, split, [*undecodable, *excluded, *leaks])
        kept_images = pd.concat(tables, ignore_index=True)
        counts = {
            split: {name: int((table["label"] == label).sum()) for label, name in enumerate(data.classes)}
            for split, table in zip(splits, tables, strict=True)
        }
        dataset = {
            "source": source["source"],
            "stand_in": source["stand_in"],
            "digest": files.content_digest(zip(kept_images["name"], kept_images["sha256"], strict=True)),
            "raw_digest": source["digest"],
            "arrays": arrays,
            "image_size": data.image_size,
            "classes": list(data.classes),
            "counts": counts,
        }
        files.write_json(folder / "dataset.json", dataset)

    report = {**dataset, "excluded": excluded, **audit(everything, kept_images, dropped, undecodable)}
    with files.whole_folder(reports) as folder:
        files.write_json(folder / "audit.json", report)
        files.write_csv(folder / "measures.csv", _measures(kept_images))
        draw(report, kept_images, prepared, folder)
    _announce(report, reports / "audit.json")
    return report


def _measures(kept_images: pd.DataFrame) -> pd.DataFrame:
    """split, name (as in index.csv) and Measures of each image in the arrays; `evaluate` slices validation by them."""
    named = kept_images.assign(name=_below_split(kept_images["name"]))
    return named[["split", "name", *Measures._fields]].drop(columns="phash").round(4)


def _below_split(names: pd.Series[str]) -> pd.Series[str]:
    return names.str.replace(r"^[^/]*/", "", regex=True)


def _read_source(raw: Path, classes: Sequence[str]) -> dict[str, Any]:
    """What fetch wrote about the images in `raw`."""
    remedy = "Run `make data` to fetch the images again."
    source: Any = files.read_json(raw / SOURCE.name, remedy)
    if not isinstance(source, dict) or not {"source", "stand_in", "digest", "classes"} <= source.keys():
        raise Failure(f"{raw / SOURCE.name} is not what fetch writes. {remedy}")
    if source["classes"] != list(classes):
        raise Failure(f"{raw} holds {source['classes']}, not data.classes. {remedy}")
    return source


def _list_images(raw: Path, classes: Sequence[str]) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """name (with its split), split, label and sha256 of every image; and those whose name no table can hold."""
    entries = [(f"{split}/{name}", split, label) for split, label, name in folders.list_images(raw, classes)]
    storable = [entry for entry in entries if entry[0] == folders.storable_name(entry[0])]
    with ThreadPoolExecutor() as pool:
        try:
            checksums = list(pool.map(lambda entry: files.sha256(raw / entry[0]), storable))
        except OSError as error:
            raise Failure(f"{error.filename or raw} cannot be read ({files.cause(error)}).") from None
    table = pd.DataFrame(storable, columns=["name", "split", "label"]).assign(sha256=checksums)
    reason = "its name is not UTF-8, or has control characters"
    others = [folders.storable_name(name) for name, _, _ in entries if name != folders.storable_name(name)]
    return table, [{"name": name, "reason": reason} for name in others]


def _find_leaks(everything: pd.DataFrame, policy: str) -> list[str]:
    """The training images to drop: those that are byte-identical to one in the validation set."""
    leaked = [name for name, _ in leaked_pairs(everything)]
    if leaked and policy == "fail":
        raise Failure(
            f"{len(leaked)} training image{'s are' if len(leaked) > 1 else ' is'} also in the validation set "
            f"(the first: {leaked[0]}). "
            "Exclude them (data.exclude), or set data.leaks to drop or keep."
        )
    return leaked if policy == "drop" else []


def _refuse_empty_class(
    table: pd.DataFrame, classes: Sequence[str], split: str, left_out: list[dict[str, str]]
) -> None:
    origin = "train" if split == "train" else "valid"  # `test` is a part of that
    for label, name in enumerate(classes):
        if not (table["label"] == label).any():
            first = next((item for item in left_out if item["name"].startswith(f"{origin}/{name}/")), None)
            example = f" (left out: {first['name']}: {first['reason']})" if first else ""
            raise Failure(
                f"No image of {name} is left in {split_name(split)}{example}. Fetch the images again with `make data`, "
                "or change data.exclude, data.leaks, data.test_fraction or data.valid_fraction."
            )


def _decode_split(
    raw: Path, part: pd.DataFrame, size: int, folder: Path
) -> tuple[pd.DataFrame, list[dict[str, str]], str]:
    """Write images.npy, labels.npy and index.csv of one split into `folder`.

    Returns a row for each image in the arrays with its Measures, the name and the reason of each file
    that cannot be decoded, and the sha256 of all pixels.
    """
    folder.mkdir()
    digest = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []

    def read(name: str) -> tuple[images.Decoded, dict[str, Any]] | str:
        content = BytesIO((raw / name).read_bytes())  # whose OSError would say nothing about the image
        try:
            decoded = images.decode(content, size)
        except ValueError as error:
            return str(error)
        return decoded, measure(decoded.pixels)._asdict()

    # Written as one stream, so that the array is never in memory as a whole. The count in its header is known at the
    # end only; numpy pads the header to a size that does not depend on it. No more than 8 at once: a large picture
    # takes up to 1.2 GB while it is decoded.
    entries = part.to_dict("records")
    with (folder / "images.npy").open("wb") as file, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        _write_npy_header(file, (len(entries), size, size, 3))
        for start in track(range(0, len(entries), CHUNK), f"Decoding {len(entries)} {split_name(folder.name)} images"):
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
        _write_npy_header(file, (len(rows), size, size, 3))
    table = pd.DataFrame(rows, columns=[*part.columns, "width", "height", "mode", *Measures._fields])
    np.save(folder / "labels.npy", table["label"].to_numpy(np.uint8))
    index = table[["name", "label", "sha256"]].assign(name=_below_split(table["name"]))
    files.write_csv(folder / "index.csv", index)
    return table, broken, digest.hexdigest()


def _write_npy_header(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _announce(report: dict[str, Any], path: Path) -> None:
    for item in report["undecodable"]:
        console.print(f"left out {item['name']}: {item['reason']}")
    words = {
        "excluded": "excluded by data.exclude",
        "undecodable": "undecodable",
        "identical": "byte-identical pairs",
        "leaks": "training images also in validation",
        "dropped": "dropped from train",
        "conflicts": "pairs with conflicting labels",
        "near_duplicates": "near-duplicate pairs",
        "constant": "blank",
        "dark": "very dark",
        "bright": "very bright",
    }
    counts = {text: len(report[key]) for key, text in words.items() if report[key]}
    findings = ", ".join(
        f"{count} {text if count > 1 else text.replace('pairs', 'pair').replace('images', 'image')}"
        for text, count in counts.items()
    )
    total = sum(sum(counts.values()) for counts in report["counts"].values())
    console.print(
        f"Prepared {total} images of {report['image_size']}x{report['image_size']} px. "
        f"Audit: {findings or 'no problems'} ({path})."
    )
