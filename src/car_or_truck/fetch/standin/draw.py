"""Draws the synthetic images: cars and trucks as simple solids in simple scenes, with Pillow.

Cars are sedans, coupes and low sports cars; trucks are SUVs and pickups, as in the real photographs.
Each has a scene of its own (ground, sky, backdrop, light, noise) and letterbox bars like the real
images. All are seen nearly from the side, so that a few hundred of them teach a convnet the difference.

The same (seed, split, number) always gives the same image, whatever else is drawn.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from car_or_truck.fetch.standin.scenery import pick, scenery
from car_or_truck.fetch.standin.vehicles import CARS, TRUCKS, vehicle

TRUCK_SHARE = 0.4215  # as in the real validation set: 2129 of 5051
_SPLITS = {"train": 0, "valid": 1}
_OVERSAMPLE = 2  # drawn larger and then reduced, for smooth edges


def is_truck(number: int) -> bool:
    """Whether image `number` (from 0) shows a truck: spread so that the first n images hold TRUCK_SHARE, for any n."""
    return math.floor((number + 1) * TRUCK_SHARE) > math.floor(number * TRUCK_SHARE)


def draw(seed: int, split: str, number: int, size: int = 128) -> Image.Image:
    """Image `number` of `split` ("train" or "valid"): RGB, size x size pixels, letterboxed."""
    rng = np.random.default_rng([seed, _SPLITS[split], number])
    shape = pick(rng, TRUCKS if is_truck(number) else CARS)
    frame_height = round(size * rng.uniform(0.56, 1.0)) if rng.random() < 0.9 else size
    width, height = size * _OVERSAMPLE, frame_height * _OVERSAMPLE

    light = rng.uniform(0.6, 1.15)
    horizon = height * rng.uniform(0.35, 0.62)
    scene = scenery(rng, width, height, horizon, light)
    vehicle(rng, scene, shape, light)

    pixels = np.asarray(scene.resize((size, frame_height), Image.Resampling.LANCZOS), np.float64)
    pixels = (pixels - 128) * rng.uniform(0.75, 1.2) + 128  # contrast
    pixels = pixels + rng.normal(0, rng.uniform(1, 2), pixels.shape)  # sensor noise
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    boxed = Image.new("RGB", (size, size))
    boxed.paste(picture, (0, (size - frame_height) // 2))
    return boxed
