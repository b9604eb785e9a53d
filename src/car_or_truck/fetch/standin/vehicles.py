"""The vehicles in the synthetic images: their shapes, and how a shape becomes a solid.

A vehicle is its side profile, extruded to its width, rotated, lit and projected orthographically.
Lengths are in metres: x runs from the rear bumper to the front, y across, z up from the ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from car_or_truck.fetch.standin.scenery import Colour, hsv, pick, shade

Point = tuple[float, float]
Array = NDArray[np.float64]

PAINTS = [(235, 235, 232), (28, 28, 32), (150, 154, 158), (90, 94, 100), (168, 24, 28), (24, 54, 120),
          (196, 188, 166), (30, 78, 52), (92, 52, 34), (226, 168, 30), (104, 22, 40), (70, 130, 180)]  # fmt: skip
GLASS = (44, 54, 64)


@dataclass(frozen=True)
class Shape:
    """A kind of vehicle: `profile` runs along the upper outline from rear to front as (x, z);
    `glass` numbers the profile's edges that are panes; `windows` are panes on the side."""

    name: str
    profile: list[Point]
    glass: list[int]
    windows: list[list[Point]]
    wheels: Point  # x of the rear and the front axle
    radius: float
    clearance: float
    width: float
    bed: tuple[float, float] | None = None  # a pickup's open box, from x to x


CARS = [
    Shape(
        "sedan",
        [(0.02, 0.40), (0.0, 0.72), (0.10, 0.98), (0.80, 1.03), (1.42, 1.42), (2.62, 1.45), (3.38, 1.02),
         (4.32, 0.84), (4.58, 0.62), (4.58, 0.34)],
        [3, 5],
        [[(1.12, 1.05), (1.52, 1.34), (2.02, 1.37), (2.02, 1.05)],
         [(2.10, 1.05), (2.10, 1.37), (2.58, 1.37), (3.12, 1.05)]],
        (0.92, 3.66), 0.32, 0.22, 1.72,
    ),
    Shape(
        "coupe",
        [(0.02, 0.40), (0.0, 0.74), (0.14, 0.94), (0.48, 0.98), (1.62, 1.31), (2.34, 1.34), (3.18, 0.96),
         (4.14, 0.80), (4.38, 0.58), (4.38, 0.32)],
        [3, 5],
        [[(1.10, 1.00), (1.66, 1.23), (2.30, 1.26), (2.86, 1.00)]],
        (0.86, 3.52), 0.33, 0.20, 1.74,
    ),
    Shape(
        "low",
        [(0.02, 0.36), (0.0, 0.78), (0.16, 0.90), (0.92, 0.94), (1.62, 1.14), (2.14, 1.16), (3.10, 0.82),
         (4.02, 0.66), (4.30, 0.46), (4.30, 0.26)],
        [5],
        [[(1.46, 0.92), (1.70, 1.08), (2.12, 1.10), (2.72, 0.88)]],
        (0.84, 3.42), 0.33, 0.16, 1.82,
    ),
]  # fmt: skip
TRUCKS = [
    Shape(
        "suv",
        [(0.02, 0.54), (0.0, 0.90), (0.04, 1.20), (0.16, 1.80), (0.42, 1.90), (2.78, 1.90), (3.36, 1.28),
         (4.34, 1.16), (4.54, 0.92), (4.54, 0.50)],
        [2, 5],
        [[(0.26, 1.30), (0.36, 1.72), (1.06, 1.74), (1.06, 1.30)],
         [(1.16, 1.30), (1.16, 1.74), (1.94, 1.74), (1.94, 1.30)],
         [(2.04, 1.30), (2.04, 1.74), (2.72, 1.74), (3.10, 1.30)]],
        (0.90, 3.62), 0.41, 0.42, 1.88,
    ),
    Shape(
        "pickup",
        [(0.02, 0.56), (0.0, 0.82), (0.02, 1.10), (2.08, 1.12), (2.16, 1.74), (2.36, 1.80), (3.30, 1.80),
         (3.92, 1.22), (5.06, 1.10), (5.26, 0.88), (5.26, 0.50)],
        [3, 6],
        [[(2.28, 1.24), (2.32, 1.66), (2.78, 1.68), (2.78, 1.24)],
         [(2.86, 1.24), (2.86, 1.68), (3.26, 1.68), (3.66, 1.24)]],
        (1.06, 4.16), 0.41, 0.42, 1.90,
        bed=(0.10, 2.02),
    ),
]  # fmt: skip


def vehicle(rng: np.random.Generator, scene: Image.Image, shape: Shape, light: float) -> None:
    """Draw one vehicle onto the scene."""
    width, height = scene.size
    stretch = np.array([rng.uniform(0.92, 1.08), rng.uniform(0.95, 1.05), rng.uniform(0.93, 1.08)])
    yaw = math.radians(rng.uniform(-5, 5))
    pitch = math.radians(rng.uniform(8, 10))
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    paint: Colour = pick(rng, PAINTS)
    if rng.random() < 0.3:
        paint = hsv(rng.uniform(0, 1), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.95))
    sun = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.9, 0.3), 1.0])
    sun /= np.linalg.norm(sun)

    middle = (shape.profile[0][0] + shape.profile[-1][0]) / 2
    crown = max(z for _, z in shape.profile)

    def half_width(z: float) -> float:  # a cabin leans inwards above the belt line
        lean = max(0.0, (z - 0.62 * crown) / (0.38 * crown))
        return shape.width / 2 * (1 - 0.16 * lean)

    def project(points: list[tuple[float, float, float]]) -> Array:
        """Model points (x, side from -1 near to 1 far, z) to [n, 3]: right, down, depth; metres."""
        x, side, z = np.array(points, float).T
        y = side * np.array([half_width(level) for level in z]) * stretch[1]
        x, z = (x - middle) * stretch[0], z * stretch[2]
        right = mirrored * (x * math.cos(yaw) - y * math.sin(yaw))
        depth = x * math.sin(yaw) + y * math.cos(yaw)
        down = -(z * math.cos(pitch) + depth * math.sin(pitch))
        return np.column_stack([right, down, depth])

    rim = [(x, side, z) for x, z in shape.profile for side in (-1.0, 1.0)]
    wheel_line = [(x, side, 0.0) for x in shape.wheels for side in (-1.0, 1.0)]
    extent = project(rim + wheel_line)[:, :2]
    low, high = extent.min(0), extent.max(0)
    scale = min(
        width * rng.uniform(0.94, 0.97) / (high[0] - low[0]), height * rng.uniform(0.89, 0.92) / (high[1] - low[1])
    )
    room = np.array([width, height]) - (high - low) * scale
    corner = room * np.array([rng.uniform(0.2, 0.8), rng.uniform(0.5, 0.9)])

    def place(points: list[tuple[float, float, float]]) -> list[Point]:
        spots = (project(points)[:, :2] - low) * scale + corner
        return [(float(u), float(v)) for u, v in spots]

    pen = ImageDraw.Draw(scene)

    def face(points: list[tuple[float, float, float]], colour: Colour, factor: float = 1.0) -> None:
        pen.polygon(place(points), fill=shade(colour, factor * light))

    def lying(x0: float, x1: float, half: float, z: float, colour: Colour) -> None:
        face([(x0, -half, z), (x1, -half, z), (x1, half, z), (x0, half, z)], colour)

    def upright(x: float, side0: float, side1: float, z0: float, z1: float, colour: Colour) -> None:
        face([(x, side0, z0), (x, side1, z0), (x, side1, z1), (x, side0, z1)], colour)

    def wheel(x: float, side: float) -> None:
        angles = np.linspace(0, 2 * math.pi, 25)[:-1]
        for share, colour in ((1.0, (26, 26, 28)), (0.62, (150, 152, 156)), (0.2, (60, 60, 64))):
            radius = shape.radius * share
            face([(x + radius * math.cos(a), side, shape.radius + radius * math.sin(a)) for a in angles], colour)

    rear, front = shape.profile[0][0], shape.profile[-1][0]
    lying(rear, front, 1.1, 0, (30, 30, 32))  # shadow
    for x in shape.wheels:
        wheel(x, 0.92)
    sill = shape.clearance
    lying(rear + 0.1, front - 0.1, 0.9, sill, (16, 16, 18))

    towards = np.array([math.sin(yaw) * -math.cos(pitch), math.sin(pitch)])  # the camera, in the x-z plane
    edges = list(zip(shape.profile, shape.profile[1:], strict=False))
    faces = []
    for number, ((x0, z0), (x1, z1)) in enumerate(edges):
        normal = np.array([-(z1 - z0), x1 - x0]) / math.hypot(x1 - x0, z1 - z0)
        if normal @ towards > 0:
            quad = [(x0, -1.0, z0), (x1, -1.0, z1), (x1, 1.0, z1), (x0, 1.0, z0)]
            shine = 0.55 + 0.55 * max(0.0, normal[0] * sun[0] + normal[1] * sun[2])
            faces.append((float(project(quad)[:, 2].mean()), number, quad, shine))
    for _, number, quad, shine in sorted(faces, key=lambda item: -item[0]):
        face(quad, paint, shine)
        if number in shape.glass:
            face([(x, side * 0.88, z) for x, side, z in quad], GLASS, 0.7 + 0.5 * shine)
    if shape.bed is not None:
        lying(*shape.bed, 0.85, 1.11, (38, 38, 40))
    if yaw < 0:  # the front is seen: lamps, grille, plate
        x, z = front + 0.01, shape.profile[-2][1]
        upright(x, -0.45, 0.45, z - 0.16, z + 0.02, (34, 34, 36))
        for side in (-1.0, 1.0):
            outer, inner = side * 0.95, side * 0.6
            lamp = [(x, outer, z - 0.1), (x, inner, z - 0.1), (x, inner, z + 0.04), (x, outer, z + 0.06)]
            face(lamp, (244, 240, 214))
    else:
        x, z = rear - 0.01, shape.profile[1][1]
        upright(x, -0.25, 0.25, z - 0.06, z + 0.06, (220, 220, 214))
        for side in (-1.0, 1.0):
            upright(x, side * 0.95, side * 0.68, z, z + 0.2, (176, 22, 26))

    flank = 0.6 + 0.45 * max(0.0, -sun[1])
    outline = [*shape.profile, (front - 0.04, sill), (rear + 0.06, sill)]
    face([(x, -1.0, z) for x, z in outline], paint, flank)
    rocker = [(rear + 0.1, sill), (front - 0.1, sill), (front - 0.1, sill + 0.1), (rear + 0.1, sill + 0.1)]
    face([(x, -1.0, z) for x, z in rocker], paint, flank * 0.55)
    for window in shape.windows:
        face([(x, -1.0, z) for x, z in window], GLASS, rng.uniform(0.8, 1.3))
    angles = np.linspace(0, math.pi, 13)
    for x in shape.wheels:
        arch = shape.radius * 1.18
        face([(x + arch * math.cos(a), -1.0, shape.radius + arch * math.sin(a)) for a in angles]
             + [(x - arch, -1.0, sill), (x + arch, -1.0, sill)], (18, 18, 20))  # fmt: skip
        wheel(x, -1.0)
