"""`predict`: label and probability of any picture, by the champion or another model.

A picture that cannot be read is reported, and the others are predicted.
"""

from __future__ import annotations

import json
import os
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from car_or_truck.errors import Failure, summarize
from car_or_truck.fetch import download, folders
from car_or_truck.registry import loading, versions
from car_or_truck.registry.versions import CHAMPION

MOST_BYTES, MOST_SECONDS = 50_000_000, 30  # for the download of one picture
BATCH = 1024  # decoded pictures in memory
MOST_DECODED = 4  # pictures at a time: a large one takes up to 1.2 GB
MOST_EXPLAINED = 24  # pictures in one figure
UNSURE = 0.75  # confidence below which a label is said to be unsure: it is wrong once in four times or more often
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A picture to predict: a file, a URL, or the bytes from stdin."""

    name: str
    content: bytes | None = None

    def read(self) -> BytesIO | Path:
        """Its bytes, or the file that holds them. Raises ValueError with the reason when there are none."""
        if self.content is not None:
            return BytesIO(self.content)
        if "://" in self.name:
            return BytesIO(download.read_url(self.name, MOST_BYTES, MOST_SECONDS))
        path = Path(self.name)
        if not path.is_file():
            raise ValueError("not a file" if path.exists() else "no such file")
        return path


@dataclass(frozen=True)
class Output:
    """What to print for each picture, and what to draw."""

    form: str = "text"  # or json, csv
    coverage: float | None = None  # of the prediction sets; None: no sets
    explain: Path | None = None  # a PNG of where the model looks


def predict(images: list[str], model: str | None, output: Output, console: Console) -> int:
    """Print predictions; returns how many pictures could not be read."""
    requested = list(pictures(images, sys.stdin.buffer))
    if not requested:
        raise Failure(f"No image in {', '.join(images)}; looked for {', '.join(sorted(folders.SUFFIXES))}.")
    classifier = _classifier(model, console)
    width = min(60, max(len(picture.name) for picture in requested))
    tables: list[pd.DataFrame] = []
    explained_pictures: list[Pixels] = []
    for start in range(0, len(requested), BATCH):
        table, decoded = _predict_batch(classifier, requested[start : start + BATCH], output.coverage)
        if output.form == "csv":
            joined = {name: table[name].map("|".join) for name in table.columns.intersection(["prediction_set"])}
            table.assign(**joined).to_csv(sys.stdout, header=not start, index=False, lineterminator="\n")
        elif output.form == "text":
            for row in table.to_dict("records"):
                print(line(row, width, output.coverage))
        tables.append(table)
        explained_pictures += decoded[: MOST_EXPLAINED - len(explained_pictures)] if output.explain else []
    predictions = pd.concat(tables, ignore_index=True)
    if output.form == "json":
        print(json.dumps(predictions.to_dict("records"), indent=2))
    if output.explain and explained_pictures:
        _explain(classifier, explained_pictures, predictions[: len(explained_pictures)], output.explain)
        more = f" of the first {len(explained_pictures)}" if len(predictions) > len(explained_pictures) else ""
        console.print(f"Where the model looks{more}: {output.explain}")
    return len(requested) - len(predictions)


def line(row: dict[str, Any], width: int, coverage: float | None) -> str:
    """A prediction as text; what the model has no numbers for is left out."""
    parts = [f"{row['image']:<{width}}", f"{row['label']:<8}", f"{percent(row):>6}"]
    if coverage is not None:
        parts.append(f"{100 * coverage:g}% set: {' or '.join(row['prediction_set']) or 'none'}")
    if confidence(row) < UNSURE:
        parts.append("unsure")
    if row.get("unlike"):
        parts.append("unlike the training images")
    return "  ".join(parts)


def confidence(row: dict[str, Any]) -> float:
    """The calibrated probability of the label; of a model that was not evaluated, its own probability."""
    return float(row.get("confidence", max(row["probability"], 1 - row["probability"])))


def percent(row: dict[str, Any]) -> str:
    """The confidence as text: never 100%."""
    return ">99.9%" if confidence(row) > 0.999 else f"{confidence(row):.1%}"


def pictures(images: list[str], stdin: Any) -> Iterator[Picture]:
    """All pictures; a folder stands for the images in and below it, `-` for stdin.

    Stdin holds one picture file, or a list of files, folders and URLs, one a line.
    """
    for name in images:
        if not name:
            raise Failure("The name of an image is empty: is a variable unset?")
        if name == "-":
            content = stdin.read()
            # Every picture file but a PPM has a NUL byte, and no name has.
            if content and b"\0" not in content and not re.match(rb"P[1-6]\s", content):
                lines = [line.rstrip("\r") for line in os.fsdecode(content.removeprefix(BOM_UTF8)).split("\n")]
                yield from pictures([line for line in lines if line not in ("", "-")], stdin)
            else:
                yield Picture("stdin", content)
        elif os.path.isdir(name):  # noqa: PTH112  # for a name too long, Path.is_dir raises
            yield from (Picture(str(Path(name) / below)) for below in folders.images_below(Path(name)))
        else:
            yield Picture(name)


def _predict_batch(
    classifier: Any, batch: Sequence[Picture], coverage: float | None
) -> tuple[pd.DataFrame, list[Pixels]]:
    """The predictions for the readable pictures, and these as decoded; the reasons for others go to stderr."""

    def decode(picture: Picture) -> Pixels | str:
        try:
            return np.asarray(classifier.decode(picture.read()))
        except (ValueError, OSError, MemoryError) as error:
            return summarize(error)

    names, decoded = [], []
    with ThreadPoolExecutor(MOST_DECODED) as pool:
        for picture, result in zip(batch, pool.map(decode, batch), strict=True):
            if isinstance(result, str):
                print(f"{picture.name}: {result}", file=sys.stderr)
            else:
                names.append(folders.storable_name(picture.name))
                decoded.append(result)
    size = classifier.image_size
    stack = np.stack(decoded) if decoded else np.empty((0, size, size, 3), np.uint8)
    try:
        answers = loading.answers(classifier, stack, coverage)
    except ValueError as error:
        raise Failure(f"No prediction sets: {error}.") from None
    answers.insert(0, "image", names)
    return answers, decoded


def _classifier(model: str | None, console: Console) -> Any:
    """The named model, or the champion; says which it is."""
    with console.status("Loading the model ..."):  # nothing where the console is no terminal
        if model and (Path(model) / "cell.json").is_file():
            loading.start()
            classifier, cell = loading.load_folder(Path(model))
            label, stand_in = f"{model} ({cell.name})", cell.stand_in
        elif model and "/" in model and not model.startswith("models:/"):
            raise Failure(f"{model} has no cell.json: give a folder that `train` wrote, such as models/tutorial/31415.")
        else:
            version = versions.find(versions.open_registry(), CHAMPION if model is None else model)
            loading.start()
            classifier = loading.classifier(version)
            label, stand_in = f"{version.name} {version}", version.synthetic
    console.print(f"Using {label}.")
    if stand_in:
        console.print("It was trained on synthetic images: do not trust it on photographs.", style="yellow")
    return classifier


def _explain(classifier: Any, images: Sequence[Pixels], predictions: pd.DataFrame, path: Path) -> None:
    from car_or_truck.evaluate import inspection_figures

    maps = loading.heat(classifier, np.stack(images))
    captions = [f"{row['label']} {percent(row)}" for row in predictions.to_dict("records")]
    names = [Path(name).name for name in predictions["image"]]
    try:
        inspection_figures.explained(np.stack(images), maps, names, captions, path)
    except (OSError, ValueError) as error:
        raise Failure(f"Cannot write {path}: {error}") from None
