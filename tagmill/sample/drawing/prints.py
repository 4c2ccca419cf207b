"""Printed motifs on a chest or a cap."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import Color, any_color, contrasting
from tagmill.sample.drawing.sketch import Sketch, curve, ellipse, moved, polygon, symmetric

#: draws a motif around (0, y) that extends about `size` to each side; takes two paints
Motif = Callable[[Sketch, Generator, tuple[int, int], float, float], None]


def draw_print(sketch: Sketch, rng: Generator, ground: Color, y: float, size: float) -> None:
    """Draw a random motif of about 2 * `size` around (0, y) that contrasts with the color `ground`."""
    paints = (sketch.color(contrasting(rng, ground)), sketch.color(any_color(rng)))
    MOTIFS[int(rng.integers(len(MOTIFS)))](sketch, rng, paints, y, size)


def _sea(sketch: Sketch, rng: Generator, paints: tuple[int, int], y: float, size: float) -> None:
    sketch.area(ellipse((0, y), size, size), paints[1], rim=128)
    x = np.linspace(-0.85, 0.85, 24) * size
    for depth in (0.15, 0.43):
        wave = np.stack([x, y + size * depth + 0.16 * size * np.sin(x / size * 6 + rng.uniform(0, 6))], axis=1)
        sketch.line(wave, paints[0], size * 0.12)


def _words(sketch: Sketch, rng: Generator, paints: tuple[int, int], y: float, size: float) -> None:
    """Draw two rows of rings and bars that look like lettering."""
    for row, height in ((-0.35, 0.5), (0.35, 0.3)):
        x, top = -size * rng.uniform(0.8, 1.1), y + row * size
        while x < size:
            width = size * rng.uniform(0.14, 0.3)
            ring = ellipse((x + width / 2, top), width * 0.4, height * size * 0.45, 9)
            sketch.line(ring, paints[0], size * 0.1)
            if rng.random() < 0.5:
                bar = polygon([(x, top - height * size * 0.5), (x, top + height * size * 0.5)])
                sketch.line(bar, paints[0], size * 0.1)
            x += width + size * 0.1


def _mountains(sketch: Sketch, rng: Generator, paints: tuple[int, int], y: float, size: float) -> None:
    sketch.dot((size * rng.uniform(-0.4, 0.1), y - size * 0.55), size * 0.28, paints[1], rim=128)
    peaks = polygon([(-1, 0.6), (-0.45, -0.4), (-0.1, 0.15), (0.3, -0.75), (1, 0.6)])
    sketch.area(moved(peaks, 0.0, (0.0, y), size), paints[0], rim=128)


def _star(sketch: Sketch, rng: Generator, paints: tuple[int, int], y: float, size: float) -> None:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, rng.uniform(0.36, 0.5), 1.0) * size
    sketch.area(np.stack([radii * np.cos(angles), y + radii * np.sin(angles)], axis=1), paints[0], rim=128)


def _heart(sketch: Sketch, rng: Generator, paints: tuple[int, int], y: float, size: float) -> None:
    lobe = curve((0, -0.35), (0.5, -0.8), (0.98, -0.3), (0.55, 0.35), (0, rng.uniform(0.8, 1.0)))
    sketch.area(moved(symmetric(lobe), 0.0, (0.0, y), size), paints[0], rim=128)


def _bands(sketch: Sketch, rng: Generator, paints: tuple[int, int], y: float, size: float) -> None:
    slant = rng.uniform(0.0, 0.25)
    for step, paint in enumerate((paints[0], paints[1], paints[0])):
        top = step * 0.4 - 0.6
        band = polygon([(-1, top), (1, top), (1 - slant, top + 0.25), (-1 - slant, top + 0.25)])
        sketch.area(moved(band, 0.0, (0.0, y), size), paint, rim=128)


MOTIFS: tuple[Motif, ...] = (_sea, _words, _mountains, _star, _heart, _bands)
