"""Hats: caps, beanies, bucket hats and wide brims."""

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import Cloth, Color, any_color, make_cloth, mixed
from tagmill.sample.drawing.prints import draw_print
from tagmill.sample.drawing.sketch import Sketch, curve, ellipse, joined, polygon


def hat(rng: Generator) -> Sketch:
    """Draw one of five kinds of headwear."""
    sketch, main = Sketch(), any_color(rng)
    maker = (_side_cap, _front_cap, _beanie, _bucket, _brimmed)[int(rng.choice(5, p=[0.26, 0.2, 0.24, 0.12, 0.18]))]
    maker(sketch, rng, main)
    if rng.random() < 0.5:
        for index, stroke in enumerate(sketch.strokes):
            flipped = stroke.points * np.array([-1.0, 1.0])
            sketch.strokes[index] = type(stroke)(flipped, stroke.paint, stroke.width, stroke.tone, stroke.rim)
    return sketch


def _cloth(rng: Generator, main: Color, kind: str = "smooth") -> Cloth:
    pattern = str(
        rng.choice(
            ["plain", "columns", "checks", "camouflage", "dots", "flowers"], p=[0.66, 0.06, 0.1, 0.07, 0.05, 0.06]
        )
    )
    return make_cloth(rng, pattern, main, kind)


def _side_cap(sketch: Sketch, rng: Generator, main: Color) -> None:
    """Draw a baseball cap with its peak to the right."""
    cloth = _cloth(rng, main)
    crown = sketch.cloth(cloth)
    peak = sketch.color(cloth.accent) if rng.random() < 0.45 else crown
    drop, reach = rng.uniform(0.02, 0.16), rng.uniform(0.85, 1.05)
    dome = curve((-0.55, 0.1), (-0.56, -0.2), (-0.32, -0.5), (0.0, -0.56), (0.3, -0.46), (0.48, -0.16), (0.52, 0.08))
    sketch.area(joined(dome, curve((0.52, 0.08), (0.0, 0.17), (-0.55, 0.1))), crown)
    for end in (-0.24, 0.2):
        sketch.seam(curve((0.0, -0.55), (end * 1.2, -0.3), (end, 0.14)), 0.018, 88)
    brim = joined(
        curve((0.1, 0.12), (0.5, 0.0), (0.8, 0.06), (reach, drop + 0.08)),
        curve((reach, drop + 0.08), (0.86, drop + 0.15), (0.5, 0.16), (0.1, 0.15)),
    )
    sketch.area(brim, peak, tone=132, rim=80)
    sketch.seam(curve((0.16, 0.145), (0.5, 0.11), (reach - 0.08, drop + 0.1)), 0.014, 96)
    sketch.dot((0.0, -0.56), 0.045, peak)
    if rng.random() < 0.6:
        sketch.dot((0.34, -0.2), 0.09, sketch.color(cloth.accent), rim=110)


def _front_cap(sketch: Sketch, rng: Generator, main: Color) -> None:
    """Draw a cap seen from the front and above: a dome over a curved peak."""
    cloth = _cloth(rng, main)
    crown = sketch.cloth(cloth)
    peak = sketch.color(cloth.accent) if rng.random() < 0.45 else crown
    dome = curve((-0.5, 0.12), (-0.52, -0.2), (-0.34, -0.5), (0.0, -0.6), (0.34, -0.5), (0.52, -0.2), (0.5, 0.12))
    sketch.area(joined(dome, curve((0.5, 0.12), (0.0, 0.0), (-0.5, 0.12))), crown)
    for end in (-0.3, 0.0, 0.3):
        sketch.seam(curve((0.0, -0.59), (end * 1.1, -0.3), (end, 0.05)), 0.018, 88)
    low = rng.uniform(0.42, 0.56)
    brim = joined(
        curve((-0.51, 0.1), (0.0, -0.03), (0.51, 0.1)),
        curve((0.51, 0.1), (0.46, low * 0.8), (0.0, low), (-0.46, low * 0.8), (-0.51, 0.1)),
    )
    sketch.area(brim, peak, tone=134, rim=76)
    for share in (0.62, 0.84):
        sketch.seam(
            curve((-0.44 * share, low * 0.74), (0.0, low * (0.3 + 0.6 * share)), (0.44 * share, low * 0.74)), 0.012, 98
        )
    sketch.dot((0.0, -0.6), 0.045, peak)
    if rng.random() < 0.7:
        draw_print(sketch, rng, main, -0.24, 0.13)


def _beanie(sketch: Sketch, rng: Generator, main: Color) -> None:
    """Draw a knitted hat with a folded band, sometimes with a pompom."""
    pattern = str(rng.choice(["plain", "stripes", "zigzag"], p=[0.6, 0.25, 0.15]))
    cloth = make_cloth(rng, pattern, main, "knit", period=rng.uniform(0.16, 0.3))
    crown = sketch.cloth(cloth)
    band = sketch.cloth(
        make_cloth(rng, "columns", mixed(cloth.accent if rng.random() < 0.4 else main, (0, 0, 0), 0.1), "knit", 0.07)
    )
    tall = rng.uniform(0.5, 0.85)
    if rng.random() < 0.5:
        _draw_pompom(sketch, rng, (0.0, -tall), cloth.accent)
    dome = curve(
        (-0.5, 0.1), (-0.52, -0.2), (-0.36, -tall * 0.8), (0.0, -tall), (0.36, -tall * 0.8), (0.52, -0.2), (0.5, 0.1)
    )
    sketch.area(dome, crown)
    for end in np.linspace(-0.4, 0.4, 6):
        sketch.seam(curve((end * 0.2, -tall + 0.05), (end, -tall * 0.4), (end * 1.1, 0.0)), 0.03, 110)
    height = rng.uniform(0.2, 0.32)
    fold = joined(
        curve((-0.54, 0.3 - height), (0.0, 0.35 - height), (0.54, 0.3 - height)),
        curve((0.55, 0.3), (0.0, 0.37), (-0.55, 0.3)),
    )
    sketch.area(fold, band, tone=134, rim=86)


def _draw_pompom(sketch: Sketch, rng: Generator, center: tuple[float, float], color: Color) -> None:
    paint = sketch.color(color)
    for angle in np.arange(0, 6.28, 0.5):
        x, y = center[0] + 0.1 * np.cos(angle), center[1] + 0.1 * np.sin(angle)
        sketch.dot((float(x), float(y)), float(rng.uniform(0.06, 0.09)), paint, rim=116)
    sketch.dot(center, 0.11, paint, rim=128)


def _bucket(sketch: Sketch, rng: Generator, main: Color) -> None:
    """Draw a bucket hat: a trapezoid over a sloping brim."""
    cloth = _cloth(rng, main)
    paint = sketch.cloth(cloth)
    wide = rng.uniform(0.68, 0.85)
    brim = joined(
        curve((-0.44, 0.0), (0.0, 0.05), (0.44, 0.0)),
        curve((0.44, 0.0), (wide, 0.34), (0.3, 0.45), (-0.3, 0.45), (-wide, 0.34), (-0.44, 0.0)),
    )
    sketch.area(brim, paint, tone=118, rim=84)
    top = joined(
        curve((-0.46, 0.03), (-0.36, -0.46), (0.0, -0.53), (0.36, -0.46), (0.46, 0.03)),
        curve((0.46, 0.03), (0.0, 0.09), (-0.46, 0.03)),
    )
    sketch.area(top, paint)
    sketch.seam(curve((-0.36, -0.42), (0.0, -0.36), (0.36, -0.42)), 0.018, 88)
    for y in (0.18, 0.28):
        sketch.seam(curve((-0.5 - y * 0.4, y), (0.0, y + 0.09), (0.5 + y * 0.4, y)), 0.012, 98)
    if rng.random() < 0.5:
        band = sketch.color(cloth.accent)
        sketch.line(curve((-0.445, -0.02), (0.0, 0.04), (0.445, -0.02)), band, 0.08)


def _brimmed(sketch: Sketch, rng: Generator, main: Color) -> None:
    """Draw a fedora or a straw hat: a crown on a wide elliptic brim."""
    straw = rng.random() < 0.45
    cloth = make_cloth(rng, "plain", (214, 184, 128) if straw else main, "knit" if straw else "smooth", 0.14)
    paint, band = sketch.cloth(cloth), sketch.color(cloth.accent)
    wide, flat = rng.uniform(0.85, 1.1), rng.uniform(0.16, 0.34)
    sketch.area(ellipse((0.0, 0.1), wide, flat), paint, tone=120, rim=84)
    sketch.seam(ellipse((0.0, 0.13), 0.5, 0.13), 0.07, 92)
    tall = rng.uniform(0.42, 0.6)
    dent = 0.0 if straw else rng.uniform(0.03, 0.1)
    crown = curve(
        (-0.45, 0.1),
        (-0.4, -tall * 0.6),
        (-0.24, -tall),
        (0.0, -tall + dent),
        (0.24, -tall),
        (0.4, -tall * 0.6),
        (0.45, 0.1),
    )
    sketch.area(joined(crown, curve((0.45, 0.1), (0.0, 0.2), (-0.45, 0.1))), paint)
    lower = curve((-0.45, 0.08), (0.0, 0.18), (0.45, 0.08))
    upper = curve((0.44, -0.06), (0.0, 0.03), (-0.44, -0.06))
    sketch.area(joined(lower, upper), band, rim=92)
    if rng.random() < 0.4:
        sketch.area(polygon([(0.3, -0.02), (0.46, -0.12), (0.5, 0.04), (0.4, 0.12)]), band, tone=118)
