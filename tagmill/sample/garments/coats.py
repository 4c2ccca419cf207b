"""Outwear: jackets, coats, puffers, hooded jackets and vests."""

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import (
    BRIGHT,
    DARK,
    DENIM,
    PALE,
    Cloth,
    Color,
    contrasting,
    jittered,
    make_cloth,
    mixed,
)
from tagmill.sample.drawing.sketch import SIDES, Sketch, curve, ellipse, joined, polygon
from tagmill.sample.garments.tops import draw_long_sleeves
from tagmill.sample.garments.torso import Torso, draw_hem


def outwear(rng: Generator) -> Sketch:
    """Draw a thick garment whose front is open, or closed by a zip or big buttons."""
    sketch = Sketch()
    style = str(rng.choice(["puffer", "coat", "jacket", "denim"], p=[0.36, 0.24, 0.28, 0.12]))
    cloth, main = _cloth(rng, style)
    torso = _torso(rng, style)
    lining = sketch.color(mixed(main, (24, 22, 26), 0.6) if rng.random() < 0.6 else contrasting(rng, main))
    trim = sketch.color(mixed(main, (0, 0, 0), 0.28))
    body = sketch.cloth(cloth)
    opening = rng.uniform(0.05, 0.2) if rng.random() < 0.5 else 0.0
    hooded = style != "coat" and rng.random() < 0.5
    if hooded:
        _draw_hood(sketch, rng, torso, body, lining)
    if style != "puffer" or rng.random() > 0.15:
        draw_long_sleeves(sketch, rng, torso, cloth, trim if style != "coat" else body, cuff=(0.22, 0.28))
    sketch.area(torso.back(), lining, tone=92, rim=70)
    sketch.area(torso.outline(), body)
    if style == "puffer":
        _draw_quilting(sketch, rng, torso)
    if style != "coat":
        draw_hem(sketch, torso, trim, rng.uniform(0.06, 0.1))
    for sign in SIDES:
        sketch.seam(torso.armhole(sign), 0.03, 74)
    _draw_front(sketch, rng, torso, lining, main, opening, zipped=style in ("puffer", "jacket"))
    _draw_pockets(sketch, rng, torso, trim, style)
    if style == "coat" or (not hooded and rng.random() < 0.4):
        _draw_lapels(sketch, torso, body, opening)
    elif not hooded:
        _draw_stand_collar(sketch, torso, trim, body)
    return sketch


def _cloth(rng: Generator, style: str) -> tuple[Cloth, Color]:
    family = DENIM if style == "denim" else (DARK, DARK, BRIGHT, PALE)[int(rng.integers(4))]
    main = jittered(rng, family[int(rng.integers(len(family)))])
    pattern = str(rng.choice(["plain", "checks", "camouflage"], p=[0.82, 0.1, 0.08])) if style != "denim" else "plain"
    return make_cloth(rng, pattern, main, "denim" if style in ("denim", "coat") else "smooth"), main


def _torso(rng: Generator, style: str) -> Torso:
    shoulder = rng.uniform(0.54, 0.62)
    chest = shoulder * rng.uniform(0.98, 1.06)
    length = rng.uniform(1.85, 2.3) if style == "coat" else rng.uniform(1.2, 1.6)
    return Torso(
        neck=rng.uniform(0.2, 0.26),
        neck_depth=rng.uniform(0.14, 0.24),
        shoulder=shoulder,
        slope=rng.uniform(0.1, 0.16),
        armpit=rng.uniform(0.52, 0.62),
        chest=chest,
        waist=chest * rng.uniform(0.9, 1.02),
        hem=chest * rng.uniform(0.94, 1.12),
        length=length,
        pointed=True,
        hem_curve=0.02,
    )


def _draw_quilting(sketch: Sketch, rng: Generator, torso: Torso) -> None:
    """Draw the padded bands of a puffer: a dark seam under a bright bulge."""
    step = rng.uniform(0.12, 0.22)
    for y in np.arange(torso.slope + 0.16, torso.length - 0.08, step):
        half = torso.chest * 0.98 if y > torso.armpit else torso.shoulder * 0.94
        line = curve((-half, float(y)), (-half * 0.5, float(y) + 0.02), (half * 0.5, float(y) + 0.02), (half, float(y)))
        sketch.fold(line - np.array([0.0, step * 0.45]), step * 0.3, 156)
        sketch.seam(line, 0.03, 70)


def _draw_front(
    sketch: Sketch, rng: Generator, torso: Torso, lining: int, main: Color, opening: float, zipped: bool
) -> None:
    """Draw the opening, and a zip or big buttons."""
    top, bottom = torso.neck_depth, torso.length + torso.hem_curve
    metal = sketch.color((196, 194, 186) if rng.random() < 0.6 else contrasting(rng, main))
    if opening:
        gap = polygon([(0.0, top), (opening, bottom), (-opening, bottom)])
        sketch.area(gap, lining, tone=104, rim=70)
        if zipped:
            for sign in SIDES:
                sketch.line(polygon([(0.0, top), (sign * opening, bottom)]), metal, 0.02)
        return
    sketch.seam(polygon([(0.0, top), (0.0, bottom)]), 0.05, 76)
    if zipped:
        sketch.line(polygon([(0.0, top), (0.0, bottom)]), metal, 0.028)
        return
    twin = rng.random() < 0.5
    for y in np.arange(top + 0.25, min(bottom, 1.5), 0.25):
        for x in (-0.13, 0.13) if twin else (0.07,):
            sketch.dot((x, float(y)), 0.036, metal)


def _draw_pockets(sketch: Sketch, rng: Generator, torso: Torso, trim: int, style: str) -> None:
    y = min(torso.length - 0.3, torso.armpit + rng.uniform(0.4, 0.6))
    flap = rng.random() < 0.5
    for sign in SIDES:
        if flap:
            corners = [(0.22, y), (0.46, y + 0.01), (0.46, y + 0.1), (0.34, y + 0.12), (0.22, y + 0.1)]
            sketch.area(polygon(corners) * np.array([sign, 1.0]), trim, tone=142, rim=80)
        else:
            sketch.seam(polygon([(sign * 0.3, y + 0.12), (sign * 0.4, y - 0.12)]), 0.034, 56)
        if style == "denim":
            corners = [(0.16, 0.46), (0.4, 0.46), (0.4, 0.56), (0.28, 0.62), (0.16, 0.56)]
            sketch.area(polygon(corners) * np.array([sign, 1.0]), trim, tone=146, rim=80)


def _draw_lapels(sketch: Sketch, torso: Torso, paint: int, opening: float) -> None:
    """Draw wide notched lapels down to the chest."""
    low = torso.neck_depth + 0.5
    for sign in SIDES:
        lapel = polygon(
            [
                (0.02 + opening * 0.2, low),
                (torso.neck * 0.8, -0.05),
                (torso.neck + 0.07, 0.03),
                (0.36, 0.24),
                (0.27, 0.29),
                (0.34, 0.34),
            ]
        )
        placed = lapel * np.array([sign, 1.0])
        sketch.seam(placed[2:] + np.array([0.0, 0.02]), 0.05, 74)
        sketch.area(placed, paint, tone=138, rim=74)


def _draw_stand_collar(sketch: Sketch, torso: Torso, trim: int, body: int) -> None:
    """Draw a stand-up collar."""
    for sign in SIDES:
        side = polygon(
            [(0.0, torso.neck_depth + 0.02), (torso.neck + 0.03, 0.03), (torso.neck * 0.9, -0.13), (0.03, 0.02)]
        )
        sketch.area(side * np.array([sign, 1.0]), body, tone=136, rim=76)
    sketch.line(curve((-torso.neck * 0.9, -0.13), (0.0, -0.09), (torso.neck * 0.9, -0.13)), trim, 0.035, 100)


def _draw_hood(sketch: Sketch, rng: Generator, torso: Torso, body: int, lining: int) -> None:
    """Draw a hood behind the neck, sometimes edged with fur."""
    width, height = torso.neck + rng.uniform(0.06, 0.12), rng.uniform(0.26, 0.4)
    right = curve(
        (width * 0.2, -height), (width * 0.85, -height * 0.8), (width * 1.1, -height * 0.2), (torso.neck + 0.1, 0.1)
    )
    outline = joined(right, right[::-1] * np.array([-1.0, 1.0]))
    if rng.random() < 0.3:
        fur = sketch.color(jittered(rng, (176, 152, 124)))
        for x, y in outline[::2]:
            sketch.dot((float(x), float(y)), float(rng.uniform(0.05, 0.075)), fur, rim=118)
    sketch.area(outline, body, tone=126, rim=90)
    sketch.area(ellipse((0.0, -height * 0.25), width * 0.78, height * 0.62), lining, tone=96, rim=70)
