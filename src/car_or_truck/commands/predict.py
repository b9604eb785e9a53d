"""`predict`: label and probability for any picture, by a registered model; the champion unless another is named.

A picture that cannot be read is reported on its own, and the others are answered.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from car_or_truck.errors import Failure
from car_or_truck.fetch import download, folders
from car_or_truck.registry import loading
from car_or_truck.registry import versions as registry
from car_or_truck.registry.versions import CHAMPION
from car_or_truck.tracking import store

MOST_BYTES, MOST_SECONDS = 50_000_000, 30  # of one picture at an address
AT_ONCE = 1024  # pictures in memory, decoded
MOST_EXPLAINED = 24  # pictures in one figure
FIELDS = ("image", "label", "probability", "probability_of")


@dataclass(frozen=True)
class Answer:
    """What the model says of one picture; `probability` is that of the class `probability_of`."""

    image: str
    label: str
    probability: float
    probability_of: str


@dataclass(frozen=True)
class Asked:
    """A picture that a person asks about: a file, an address, or the bytes that came by stdin."""

    name: str
    content: bytes | None = None

    def read(self) -> BytesIO | Path:
        """Where its bytes are; downloads it if need be. ValueError when there is nothing."""
        if self.content is not None:
            return BytesIO(self.content)
        if self.name.startswith(("http://", "https://")):
            return BytesIO(_downloaded(self.name))
        path = Path(self.name)
        if not path.is_file():
            raise ValueError("there is no such file" if not path.exists() else "not a file")
        return path


def predict(images: list[str], model: str | None, form: str, explain: Path | None, console: Console) -> int:
    """Answer on stdout, as `form` (text, json or csv); returns how many pictures could not be answered."""
    asked = list(pictures(images, sys.stdin.buffer))
    if not asked:
        raise Failure(f"No image in {', '.join(images)}; looked for {', '.join(sorted(folders.SUFFIXES))}.")
    classifier = _classifier(model, console)
    answers: list[Answer] = []
    shown: list[NDArray[np.uint8]] = []
    failed = 0
    writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    if form == "csv":
        writer.writeheader()
    for found, wrong, decoded in answered(classifier, asked):
        for name, reason in wrong:
            print(f"{name}: {reason}", file=sys.stderr)
        failed += len(wrong)
        if form == "csv":
            writer.writerows(map(asdict, found))
        elif form == "text":
            _print(found, width=min(60, max(len(picture.name) for picture in asked)))
        answers += found
        shown += decoded[: MOST_EXPLAINED - len(shown)] if explain else []
    if form == "json":
        json.dump([asdict(answer) for answer in answers], sys.stdout, indent=2)
        print()
    if explain and shown:
        _explain(classifier, shown, answers[: len(shown)], explain)
        more = f" of the first {len(shown)}" if len(answers) > len(shown) else ""
        console.print(f"Where it looks{more}: {explain}", highlight=False)
    return failed


def pictures(images: list[str], stdin: Any) -> Iterator[Asked]:
    """Every picture asked about; a folder stands for the images in and below it, `-` for what comes by stdin.

    That is one picture file, or a list of files, folders and addresses, one a line.
    """
    for name in images:
        if name == "-":
            content = stdin.read()
            try:
                lines = [] if b"\0" in content else content.decode().splitlines()
            except UnicodeDecodeError:
                lines = []
            if lines:
                yield from pictures([line.strip() for line in lines if line.strip() not in ("", "-")], stdin)
            else:
                yield Asked("stdin", content)
        elif Path(name).is_dir():
            yield from (Asked(str(Path(name) / below)) for below in folders.images_below(Path(name)))
        else:
            yield Asked(name)


def answered(
    classifier: Any, asked: list[Asked]
) -> Iterator[tuple[list[Answer], list[tuple[str, str]], list[NDArray[np.uint8]]]]:
    """Batch by batch: the answers, (name, reason) of what cannot be read, and the answered pictures as decoded."""

    def decode(picture: Asked) -> NDArray[np.uint8] | str:
        try:
            return np.asarray(classifier.decode(picture.read()))
        except (ValueError, OSError, MemoryError) as error:
            return " ".join(str(error).split()) or type(error).__name__

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            decoded = list(pool.map(decode, part))
            both = list(zip(part, decoded, strict=True))
            wrong = [(picture.name, found) for picture, found in both if isinstance(found, str)]
            right = [(picture, found) for picture, found in both if not isinstance(found, str)]
            probability = classifier.probability(np.stack([found for _, found in right])) if right else np.empty(0)
            positive = classifier.classes[1]
            answers = [
                Answer(picture.name, label, float(value), positive)
                for (picture, _), label, value in zip(right, classifier.labels(probability), probability, strict=True)
            ]
            yield answers, wrong, [found for _, found in right]


def _downloaded(url: str) -> bytes:
    """What is at the address, within MOST_BYTES and MOST_SECONDS."""
    import requests

    try:
        with requests.get(url, stream=True, timeout=(download.CONNECT_SECONDS, MOST_SECONDS)) as response:
            if not response.ok:
                raise ValueError(f"the server answers {response.status_code} {response.reason}")
            content, started = bytearray(), time.monotonic()
            for part in response.iter_content(1 << 16):
                content += part
                if len(content) > MOST_BYTES:
                    raise ValueError(f"larger than {MOST_BYTES // 1_000_000} MB")
                if time.monotonic() - started > MOST_SECONDS:
                    raise ValueError(f"not all there after {MOST_SECONDS} seconds")
            return bytes(content)
    except requests.RequestException as error:
        raise ValueError(f"cannot be downloaded: {download.reason(error)}") from None


def _classifier(model: str | None, console: Console) -> Any:
    """The model that is named; says which it is."""
    if model and (Path(model) / "cell.json").is_file():
        loading.start()
        classifier, cell = loading.from_folder(Path(model))
        who, stand_in = f"{model} ({cell['variant']}-{cell['seed']})", cell["data"]["stand_in"]
    else:
        client = store.open_store()
        version = registry.find(client, model or CHAMPION)
        loading.start()
        classifier = loading.classifier(version)
        who, stand_in = f"{version.name} {version}", version.tags.get("data.source") == "rendered"
    console.print(f"Asking {who}.", highlight=False)
    if stand_in:
        console.print("It was trained on drawn stand-in images: of no use on photographs.", style="yellow")
    return classifier


def _print(answers: list[Answer], width: int) -> None:
    for answer in answers:
        print(f"{answer.image:<{width}}  {answer.label:<10}  P({answer.probability_of}) {answer.probability:.4f}")


def _explain(classifier: Any, shown: list[NDArray[np.uint8]], answers: list[Answer], path: Path) -> None:
    from car_or_truck.evaluate import inspection, inspection_figures
    from car_or_truck.train import scaling

    stack = np.stack(shown)
    if classifier.side != classifier.image_size:
        stack = scaling.resized(stack, classifier.side)
    maps = inspection.grad_cam(classifier.net, (stack / 255).astype(np.float32))
    said = [f"{answer.label}: P({answer.probability_of}) {answer.probability:.2f}" for answer in answers]
    names = [Path(answer.image).name for answer in answers]
    try:
        inspection_figures.explained(np.stack(shown), maps, names, said, path)
    except (OSError, ValueError) as error:
        raise Failure(f"Cannot write {path}: {error}") from None
