"""Dresses: a fitted upper part and a skirt in one piece."""

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import any_color, make_cloth, mixed
from tagmill.sample.drawing.sketch import SIDES, Sketch, curve, joined, symmetric
from tagmill.sample.garments.bottoms import draw_skirt
from tagmill.sample.garments.torso import Sleeve, Torso, draw_cuff, draw_sleeve


def dress(rng: Generator) -> Sketch:
    """Draw a dress with straps, no sleeves, short or long sleeves, and a narrow waist."""
    sketch, main = Sketch(), any_color(rng)
    pattern = str(
        rng.choice(["plain", "flowers", "dots", "stripes", "checks", "zigzag"], p=[0.4, 0.24, 0.12, 0.1, 0.09, 0.05])
    )
    cloth = make_cloth(rng, pattern, main)
    body = sketch.cloth(cloth)
    torso = _bodice(rng)
    style = int(rng.integers(4))
    if style >= 2:
        angle = rng.uniform(0.6, 1.1)
        for sign in SIDES:
            length = rng.uniform(0.22, 0.4) if style == 2 else rng.uniform(0.7, 1.05)
            sleeve = Sleeve(length, rng.uniform(0.14, 0.26), angle + rng.normal(0, 0.05), angle + rng.uniform(0.0, 0.3))
            draw_cuff(sketch, draw_sleeve(sketch, torso, sleeve, sign, sketch.cloth(cloth, sign * angle)), body, 0.04)
    hem = torso.hem + rng.uniform(0.14, 0.55)
    skirt_paint = body if rng.random() < 0.8 else sketch.cloth(make_cloth(rng, "plain", cloth.accent))
    draw_skirt(sketch, rng, skirt_paint, torso.hem, torso.length - 0.02, hem, rng.uniform(0.7, 1.5))
    if style == 0:
        _draw_strap_top(sketch, torso, body)
    else:
        sketch.area(torso.back(), sketch.color(mixed(main, (20, 20, 26), 0.3)), tone=96, rim=80)
        sketch.area(torso.outline(), body)
        sketch.line(torso.neckline(), sketch.color(mixed(main, (0, 0, 0), 0.2)), 0.022)
    _draw_waist(sketch, rng, torso, main, sketch.color(cloth.accent))
    return sketch


def _bodice(rng: Generator) -> Torso:
    shoulder = rng.uniform(0.34, 0.42)
    chest = shoulder * rng.uniform(0.9, 1.0)
    waist = chest * rng.uniform(0.7, 0.86)
    return Torso(
        neck=rng.uniform(0.17, 0.25),
        neck_depth=rng.uniform(0.12, 0.32),
        shoulder=shoulder,
        slope=rng.uniform(0.06, 0.11),
        armpit=rng.uniform(0.36, 0.44),
        chest=chest,
        waist=(chest + waist) / 2 * 0.97,
        hem=waist,
        length=rng.uniform(0.72, 0.86),
        pointed=rng.random() < 0.4,
        hem_curve=0.01,
    )


def _draw_strap_top(sketch: Sketch, torso: Torso, paint: int) -> None:
    """Draw two straps and a heart-shaped or straight upper edge."""
    for sign in SIDES:
        sketch.line(curve((sign * 0.2, torso.armpit), (sign * 0.19, 0.15), (sign * 0.16, 0.0)), paint, 0.045)
    right = joined(
        curve((0.0, torso.armpit - 0.05), (0.14, torso.armpit - 0.13), (torso.chest * 0.86, torso.armpit - 0.05)),
        curve((torso.chest, torso.armpit), (torso.waist, (torso.armpit + torso.length) / 2), (torso.hem, torso.length)),
        curve((torso.hem, torso.length), (0.0, torso.length + 0.01)),
    )
    sketch.area(symmetric(right), paint)


def _draw_waist(sketch: Sketch, rng: Generator, torso: Torso, main: tuple[int, int, int], accent: int) -> None:
    """Draw a belt, a bow or just the seam."""
    y, half = torso.length - 0.02, torso.hem
    line = curve((-half, y), (0.0, y + 0.02), (half, y))
    kind = rng.random()
    if kind < 0.35:
        sketch.line(
            line, accent if rng.random() < 0.6 else sketch.color(mixed(main, (0, 0, 0), 0.5)), rng.uniform(0.05, 0.09)
        )
        return
    sketch.seam(line, 0.024, 78)
    if kind < 0.5:
        for sign in SIDES:
            loop = np.array([(0.0, y), (sign * 0.13, y - 0.07), (sign * 0.13, y + 0.05)])
            sketch.area(loop, accent)
            sketch.line(curve((0.0, y), (sign * 0.05, y + 0.16), (sign * 0.07, y + 0.3)), accent, 0.03)
