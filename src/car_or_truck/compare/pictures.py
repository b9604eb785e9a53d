"""Pictures as parts of the report's page: they take its colours, on a light page or a dark one."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from PIL import Image

from car_or_truck.drawing import MODEL, PALETTE, Pixels
from car_or_truck.evaluate.figures import caption, short

# Colours that a dark page replaces by another shade.
INKS = {
    "#000000": "currentColor",
    PALETTE[0]: "var(--blue)",
    PALETTE[6]: "var(--gray)",
    PALETTE[7]: "var(--brown)",
}


class Tile(NamedTuple):
    """An image of the validation set with its caption."""

    source: str  # data URL
    name: str
    caption: str


def inline(path: Path, colour: str = MODEL) -> Markup:
    """An SVG as part of the page: as wide as its column, black as the page's text, a single model in this colour."""
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :].replace("<svg", '<svg role="img"', 1)
    text = re.sub(r' (?:width|height)="[^"]*"', "", text, count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids would not be unique in the page
    text = text.replace(MODEL, colour)
    for ink, name in INKS.items():
        text = text.replace(ink, name)
    return Markup(text)


def sheet(path: Path) -> str:
    """A PNG file as a data URL, as WebP: a fifth of its size."""
    return _data_url(Image.open(path), "webp", quality=75, method=2)


def tiles(table: pd.DataFrame, images: Pixels, places: Sequence[int], classes: Sequence[str]) -> list[Tile]:
    """Images of the validation set [n, h, w, 3], with what is predicted; `table`: as predictions.csv."""
    return [
        Tile(
            _data_url(Image.fromarray(images[place]), "jpeg", quality=80),
            short(str(table["name"][place])),
            caption(classes, int(table["label"][place]), float(table["probability"][place])),
        )
        for place in places
    ]


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    file = BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
