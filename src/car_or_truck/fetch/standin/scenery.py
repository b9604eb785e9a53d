"""The surroundings of a vehicle in the synthetic images: sky, ground, backdrop."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


def pick(rng: np.random.Generator, options: list[Any]) -> Any:
    """One of the options, with equal probability."""
    return options[int(rng.integers(len(options)))]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, lighter or darker."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue, saturation and value, each 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def scenery(rng: np.random.Generator, width: int, height: int, horizon: float, light: float) -> Image.Image:
    """Sky (or a studio wall), backdrop and ground. `horizon` is in pixels from the top; `light` scales brightness."""
    scene = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(scene)
    sky = hsv(rng.uniform(0.52, 0.66), rng.uniform(0.0, 0.5), rng.uniform(0.5, 1.0))
    if rng.random() < 0.2:  # dusk, or a painted wall
        sky = hsv(rng.uniform(0, 1), rng.uniform(0.0, 0.5), rng.uniform(0.2, 0.95))
    ground = pick(
        rng, [(112, 112, 114), (150, 146, 140), (86, 118, 62), (196, 180, 146), (226, 228, 232), (64, 64, 68)]
    )
    for y in range(height):
        if y < horizon:
            colour = shade(sky, light * (0.85 + 0.25 * y / horizon))
        else:
            colour = shade(ground, light * (0.8 + 0.3 * (y - horizon) / (height - horizon)))
        pen.line([(0, y), (width, y)], fill=colour)
    backdrop = pick(rng, ["nothing", "hills", "trees", "buildings", "buildings"])
    if backdrop == "hills":
        steps = np.linspace(0, width, 9)
        tops = horizon - height * rng.uniform(0.02, 0.3, steps.size)
        outline = [(0.0, horizon), *zip(steps, tops, strict=True), (float(width), horizon)]
        pen.polygon(outline, fill=shade(hsv(rng.uniform(0.2, 0.6), 0.3, 0.5), light))
    elif backdrop == "trees":
        for _ in range(int(rng.integers(3, 14))):
            x, r = rng.uniform(0, width), height * rng.uniform(0.06, 0.22)
            green = shade(hsv(rng.uniform(0.18, 0.4), 0.5, rng.uniform(0.2, 0.5)), light)
            pen.rectangle((x - r / 8, horizon - r, x + r / 8, horizon), fill=shade((84, 62, 44), light))
            pen.ellipse((x - r, horizon - 2.4 * r, x + r, horizon - 0.3 * r), fill=green)
    elif backdrop == "buildings":
        x = -width * rng.uniform(0, 0.2)
        while x < width:
            wide, tall = width * rng.uniform(0.12, 0.5), height * rng.uniform(0.08, 0.5)
            wall = shade(hsv(rng.uniform(0, 1), rng.uniform(0, 0.3), rng.uniform(0.3, 0.9)), light)
            pen.rectangle((x, horizon - tall, x + wide, horizon), fill=wall)
            pane = max(4.0, tall * rng.uniform(0.12, 0.3))
            for row in np.arange(horizon - tall + pane * 0.6, horizon - pane, pane * 1.8):
                for column in np.arange(x + pane * 0.6, x + wide - pane, pane * 1.8):
                    pen.rectangle((column, row, column + pane, row + pane), fill=shade(wall, rng.uniform(0.4, 1.3)))
            x += wide + width * rng.uniform(0, 0.2)
    return scene
