"""Pants, shorts and skirts."""

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import (
    BRIGHT,
    DARK,
    DENIM,
    PALE,
    Cloth,
    any_color,
    contrasting,
    jittered,
    make_cloth,
    mixed,
)
from tagmill.sample.drawing.sketch import SIDES, Points, Sketch, box, curve, joined, polygon


def pants(rng: Generator) -> Sketch:
    """Draw two long legs: jeans, trousers, joggers."""
    return _legs(rng, leg=rng.uniform(1.35, 1.75), cuff=rng.uniform(0.11, 0.22), spread=rng.uniform(0.03, 0.16))


def shorts(rng: Generator) -> Sketch:
    """Draw two short, wide legs."""
    return _legs(
        rng, leg=rng.uniform(0.24, 0.46), cuff=rng.uniform(0.18, 0.245), spread=rng.uniform(0.03, 0.1), wide=True
    )


def skirt(rng: Generator) -> Sketch:
    """Draw a waistband and one flaring cloth, sometimes pleated or tiered."""
    sketch = Sketch()
    pattern = str(
        rng.choice(
            ["plain", "stripes", "checks", "dots", "flowers", "zigzag", "triangles"],
            p=[0.42, 0.1, 0.14, 0.1, 0.14, 0.06, 0.04],
        )
    )
    main = any_color(rng)
    cloth = make_cloth(rng, pattern, main, "denim" if pattern == "plain" and rng.random() < 0.3 else "smooth")
    body = sketch.cloth(cloth)
    waist, length = rng.uniform(0.27, 0.36), rng.uniform(0.65, 1.5)
    hem = waist + rng.uniform(0.02, 0.2) + length * rng.uniform(0.05, 0.36)
    draw_skirt(sketch, rng, body, waist, 0.0, hem, length)
    draw_waistband(sketch, rng, cloth, waist, rng.uniform(0.07, 0.12))
    return sketch


def draw_skirt(sketch: Sketch, rng: Generator, paint: int, waist: float, top: float, hem: float, length: float) -> None:
    """Draw a skirt part of half widths `waist` at y = `top` and `hem` at top + length."""
    bottom, bulge = top + length, rng.uniform(0.02, 0.12) * hem
    hips = waist + (hem - waist) * rng.uniform(0.3, 0.62)
    ripple = rng.uniform(0.0, 0.03) if hem > waist * 1.5 else 0.0
    folds = int(rng.integers(3, 7))
    x = np.linspace(hem, -hem, 41)
    low = np.stack([x, bottom + bulge * (1 - (x / hem) ** 2) + ripple * np.sin(x / hem * folds * 3.1)], axis=1)
    side = curve((waist, top), (hips, top + length * 0.38), (hem, bottom))
    sketch.area(joined(side, low, side[::-1] * np.array([-1.0, 1.0])), paint)
    for share in np.linspace(-0.85, 0.85, int(rng.integers(4, 13))):
        start, tilt = (waist * share, top + 0.03), rng.normal(0, 0.02)
        end = (hem * share + tilt, bottom + bulge * (1 - share**2))
        first = rng.uniform(0.0, 0.45)
        begin = (start[0] + (end[0] - start[0]) * first, start[1] + (end[1] - start[1]) * first)
        sketch.fold(polygon([begin, end]), rng.uniform(0.02, 0.07), int(rng.integers(62, 104)))
    if rng.random() < 0.35:
        sketch.seam(low - np.array([0.0, 0.05]), 0.014, 96)


def draw_waistband(sketch: Sketch, rng: Generator, cloth: Cloth, waist: float, height: float) -> None:
    """Draw a band of half width `waist` around y = 0, with its back visible behind."""
    same = rng.random() < 0.6
    paint = (
        sketch.cloth(cloth)
        if same
        else sketch.color(cloth.accent if rng.random() < 0.5 else mixed(cloth.main, (0, 0, 0), 0.3))
    )
    dip = rng.uniform(0.0, 0.04)
    upper = curve((-waist, -height), (0.0, -height + dip), (waist, -height))
    lower = curve((waist, 0.01), (0.0, 0.01 + dip), (-waist, 0.01))
    sketch.area(joined(upper, lower), paint, tone=132)
    sketch.seam(lower, 0.022, 80)
    if rng.random() < 0.35:
        for share in np.linspace(-0.9, 0.9, 14):
            sketch.seam(polygon([(waist * share, -height + dip), (waist * share, dip)]), 0.012, 100)


def _bottom_cloth(rng: Generator, wide: bool) -> tuple[Cloth, bool]:
    """Return a cloth and whether it is denim."""
    if rng.random() < 0.32:
        return make_cloth(rng, "plain", jittered(rng, DENIM[int(rng.integers(len(DENIM)))]), "denim", period=0.3), True
    family = (DARK, DARK, PALE, BRIGHT)[int(rng.integers(4))]
    chances = [0.4, 0.14, 0.16, 0.1, 0.12, 0.08] if wide else [0.7, 0.1, 0.1, 0.03, 0.03, 0.04]
    pattern = str(rng.choice(["plain", "columns", "checks", "camouflage", "flowers", "dots"], p=chances))
    return make_cloth(rng, pattern, jittered(rng, family[int(rng.integers(len(family)))])), False


def _legs(rng: Generator, leg: float, cuff: float, spread: float, wide: bool = False) -> Sketch:
    """Draw two legs of length `leg` below the crotch and half width `cuff` at the ankle."""
    sketch = Sketch()
    cloth, denim = _bottom_cloth(rng, wide)
    body = sketch.cloth(cloth)
    waist, rise = rng.uniform(0.34, 0.4), rng.uniform(0.42, 0.52)
    hips = waist + rng.uniform(0.06, 0.12)
    elastic = not denim and rng.random() < 0.45
    for sign in SIDES:
        outline, knee = _leg(rng, waist, hips, rise, leg, cuff, spread)
        sketch.area(outline * np.array([sign, 1.0]), body)
        sketch.fold(knee * np.array([sign, 1.0]), 0.05, 96)
        if not wide and elastic and rng.random() < 0.7:
            _draw_leg_cuff(sketch, outline * np.array([sign, 1.0]), sketch.color(mixed(cloth.main, (0, 0, 0), 0.25)))
    _draw_front(sketch, rng, cloth, waist, hips, rise, denim)
    draw_waistband(sketch, rng, cloth, waist, 0.09)
    if elastic:
        _draw_cord(sketch, rng, cloth)
    else:
        sketch.dot((0.0, -0.045), 0.024, sketch.color((188, 150, 84) if denim else contrasting(rng, cloth.main)))
        for x in (-0.62, 0.62):
            sketch.area(box(waist * x - 0.016, -0.095, waist * x + 0.016, 0.025), body, tone=134, rim=84)
    return sketch


def _leg(
    rng: Generator, waist: float, hips: float, rise: float, leg: float, cuff: float, spread: float
) -> tuple[Points, Points]:
    """Return the right leg's closed outline and its crease."""
    sway = spread + rng.normal(0, 0.03)
    bottom = rise + leg + rng.normal(0, 0.012)
    ankle = cuff * 2 + sway
    knee = (ankle + (hips - ankle) * 0.4, rise + leg * 0.5)
    outer = curve((waist, 0.0), (hips, rise * 0.62), knee, (ankle, bottom))
    inner = curve((sway, bottom + 0.02), (sway * 0.6 + 0.03, rise + leg * 0.5), (0.0, rise), (0.0, rise * 0.9))
    outline = joined(outer, inner, polygon([(-0.012, 0.0)]))
    crease = curve((waist * 0.55, rise * 0.8), (sway + cuff, rise + leg * 0.5), (sway + cuff, bottom - 0.03))
    return outline, crease


def _draw_leg_cuff(sketch: Sketch, outline: Points, paint: int) -> None:
    corner = int(np.argmax(outline[:22, 1]))
    right, left = outline[corner], outline[corner + 1]
    height = np.array([0.0, 0.1])
    sketch.area(np.stack([right - height, right, left, left - height]), paint)
    sketch.seam(np.stack([right - height, left - height]))


def _draw_front(
    sketch: Sketch, rng: Generator, cloth: Cloth, waist: float, hips: float, rise: float, denim: bool
) -> None:
    """Draw fly, pockets and, on denim, golden stitches."""
    sketch.seam(polygon([(0.0, 0.0), (0.0, rise)]), 0.02, 78)
    fly = curve((0.07, 0.0), (0.07, rise * 0.5), (0.0, rise * 0.72))
    pocket = curve((waist * 0.58, 0.0), (waist * 0.7, 0.13), (hips * 0.95, rise * 0.46))
    stitch = sketch.color((206, 160, 86)) if denim else None
    for line in (fly, pocket, pocket * np.array([-1.0, 1.0])):
        sketch.seam(line, 0.018, 80)
        if stitch:
            sketch.line(line - np.array([0.012, 0.0]), stitch, 0.009)
    if denim and rng.random() < 0.5:
        for sign in SIDES:
            worn = curve((sign * 0.22, rise * 0.9), (sign * 0.24, rise * 1.3))
            sketch.fold(worn, 0.14, 158)


def _draw_cord(sketch: Sketch, rng: Generator, cloth: Cloth) -> None:
    """Draw the two ends of a drawstring."""
    paint = sketch.color(contrasting(rng, cloth.main))
    for sign in SIDES:
        length = rng.uniform(0.14, 0.26)
        cord = curve((sign * 0.02, -0.04), (sign * 0.05, length * 0.5), (sign * rng.uniform(0.02, 0.1), length))
        sketch.line(cord, paint, 0.022)
