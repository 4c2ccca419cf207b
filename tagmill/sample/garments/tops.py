"""T-shirts, longsleeves and shirts."""

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import (
    BRIGHT,
    DARK,
    DENIM,
    PALE,
    Cloth,
    Color,
    any_color,
    contrasting,
    jittered,
    make_cloth,
    mixed,
)
from tagmill.sample.drawing.prints import draw_print
from tagmill.sample.drawing.sketch import SIDES, Sketch, box, curve, polygon
from tagmill.sample.garments.torso import Sleeve, Torso, draw_cuff, draw_hem, draw_hem_stitch, draw_sleeve


def tshirt(rng: Generator) -> Sketch:
    """Draw short sleeves, a round or V neck, and often a print."""
    sketch, main = Sketch(), any_color(rng)
    pattern = str(rng.choice(["plain", "stripes", "dots", "flowers", "camouflage"], p=[0.66, 0.17, 0.05, 0.07, 0.05]))
    cloth = make_cloth(rng, pattern, main)
    torso = _torso(rng, length=(1.2, 1.6), pointed=rng.random() < 0.3)
    contrast = rng.random() < 0.25
    rib = sketch.color(cloth.accent if contrast else mixed(main, (0, 0, 0), 0.12))
    body = sketch.cloth(cloth)
    angle = rng.uniform(0.25, 1.0)
    for sign in SIDES:
        sleeve = Sleeve(
            rng.uniform(0.3, 0.46), rng.uniform(0.26, 0.36), angle + rng.normal(0, 0.06), angle + rng.normal(0.05, 0.06)
        )
        raglan = cloth if not contrast or rng.random() < 0.5 else make_cloth(rng, "plain", cloth.accent)
        edges = draw_sleeve(sketch, torso, sleeve, sign, sketch.cloth(raglan, sign * angle))
        draw_cuff(sketch, edges, rib if contrast else len(sketch.paints) - 1, 0.05)
    _draw_body(sketch, torso, body, main)
    sketch.line(torso.neckline(), rib, 0.045)
    sketch.seam(torso.neckline() + np.array([0.0, 0.03]), 0.012)
    draw_hem_stitch(sketch, torso)
    if pattern == "plain" and rng.random() < 0.65:
        draw_print(sketch, rng, main, torso.neck_depth + 0.34, rng.uniform(0.14, 0.27))
    return _hung(sketch, rng)


def longsleeve(rng: Generator) -> Sketch:
    """Draw long sleeves and no buttons; cuffs and hem are often ribbed."""
    sketch, main = Sketch(), any_color(rng)
    knit = "knit" if rng.random() < 0.5 else "smooth"
    pattern = str(rng.choice(["plain", "stripes", "zigzag", "dots", "triangles"], p=[0.58, 0.24, 0.08, 0.05, 0.05]))
    cloth = make_cloth(rng, pattern, main, knit)
    torso = _torso(rng, length=(1.2, 1.5), pointed=rng.random() < 0.15)
    rib = _rib(sketch, rng, cloth)
    body = sketch.cloth(cloth)
    over = rng.random() < 0.5
    if over:
        _draw_body(sketch, torso, body, main)
    draw_long_sleeves(sketch, rng, torso, cloth, rib, cuff=(0.15, 0.2))
    if not over:
        _draw_body(sketch, torso, body, main)
    draw_hem(sketch, torso, rib, rng.uniform(0.05, 0.12))
    sketch.line(torso.neckline(), rib, rng.uniform(0.05, 0.085))
    if pattern == "plain" and rng.random() < 0.3:
        draw_print(sketch, rng, main, torso.neck_depth + 0.3, rng.uniform(0.14, 0.22))
    return _hung(sketch, rng)


def shirt(rng: Generator) -> Sketch:
    """Draw a collar, a button placket, and short or long sleeves."""
    sketch = Sketch()
    cloth, main = _shirt_cloth(rng)
    torso = _torso(rng, length=(1.35, 1.65), pointed=True)
    trim = sketch.cloth(cloth, 0.5)
    body = sketch.cloth(cloth)
    if rng.random() < 0.45:
        angle = rng.uniform(0.4, 1.05)
        for sign in SIDES:
            sleeve = Sleeve(rng.uniform(0.36, 0.5), 0.3, angle + rng.normal(0, 0.05), angle + rng.normal(0, 0.05))
            draw_cuff(sketch, draw_sleeve(sketch, torso, sleeve, sign, sketch.cloth(cloth, sign * angle)), trim, 0.06)
    else:
        draw_long_sleeves(sketch, rng, torso, cloth, trim, cuff=(0.17, 0.22))
    _draw_body(sketch, torso, body, main)
    draw_hem_stitch(sketch, torso)
    _draw_placket(sketch, rng, torso, body, main)
    if rng.random() < 0.65:
        for sign in SIDES if rng.random() < 0.35 else SIDES[1:]:
            _draw_chest_pocket(sketch, sign * 0.27, torso.armpit + 0.02, body)
    contrast = sketch.color(contrasting(rng, main)) if rng.random() < 0.12 else trim
    draw_collar(sketch, torso, contrast, rng.uniform(0.2, 0.28))
    return _hung(sketch, rng)


def draw_long_sleeves(
    sketch: Sketch, rng: Generator, torso: Torso, cloth: Cloth, rib: int, cuff: tuple[float, float]
) -> None:
    """Draw two long sleeves with cuffs: spread, hanging, or with one folded over."""
    angle = rng.uniform(0.55, 1.22)
    for sign in SIDES:
        upper = angle + rng.normal(0, 0.07)
        lower = upper + (rng.uniform(0.5, 0.9) if rng.random() < 0.1 else rng.uniform(-0.1, 0.3))
        sleeve = Sleeve(rng.uniform(1.1, 1.38), rng.uniform(*cuff), upper, lower)
        edges = draw_sleeve(sketch, torso, sleeve, sign, sketch.cloth(cloth, sign * (upper - 0.2)))
        draw_cuff(sketch, edges, rib, rng.uniform(0.07, 0.12))
        crease = (edges[0] + edges[1]) / 2
        sketch.fold(crease[9:19], 0.06, 88)


def draw_collar(sketch: Sketch, torso: Torso, paint: int, height: float) -> None:
    """Draw two collar flaps that meet at the top button."""
    stand = curve((-torso.neck, 0.0), (0.0, -0.035), (torso.neck, 0.0))
    sketch.line(stand, paint, 0.05, tone=112)
    for sign in SIDES:
        flap = polygon(
            [
                (0.0, torso.neck_depth),
                (torso.neck * 0.9, -0.045),
                (torso.neck + 0.05, 0.04),
                (torso.neck * 0.86, height + 0.05),
                (torso.neck * 0.36, torso.neck_depth + height * 0.75),
            ]
        )
        placed = flap * np.array([sign, 1.0])
        sketch.seam(placed[2:] + np.array([0.0, 0.025]), 0.06, 70)
        sketch.area(placed, paint, tone=142, rim=68)


def _rib(sketch: Sketch, rng: Generator, cloth: Cloth) -> int:
    """Return a paint for neckline, cuffs and hem: ribbed, darker, or in the accent color."""
    if rng.random() < 0.2:
        return sketch.cloth(make_cloth(rng, "columns", mixed(cloth.main, (0, 0, 0), 0.1), period=0.06))
    return sketch.color(mixed(cloth.main, (0, 0, 0), 0.14) if rng.random() < 0.7 else cloth.accent)


def _torso(rng: Generator, length: tuple[float, float], pointed: bool) -> Torso:
    shoulder = rng.uniform(0.46, 0.56)
    chest = shoulder * rng.uniform(0.9, 1.02)
    depth = rng.uniform(0.17, 0.34) if pointed else rng.uniform(0.09, 0.2)
    return Torso(
        neck=rng.uniform(0.17, 0.25),
        neck_depth=depth,
        shoulder=shoulder,
        slope=rng.uniform(0.08, 0.15),
        armpit=rng.uniform(0.44, 0.54),
        chest=chest,
        waist=chest * rng.uniform(0.86, 1.0),
        hem=chest * rng.uniform(0.94, 1.08),
        length=rng.uniform(*length),
        pointed=pointed,
        hem_curve=rng.uniform(0.0, 0.05),
    )


def _draw_body(sketch: Sketch, torso: Torso, paint: int, main: Color) -> None:
    """Draw the inside of the back, the front, and the armhole seams."""
    sketch.area(torso.back(), sketch.color(mixed(main, (20, 20, 26), 0.3)), tone=96, rim=80)
    sketch.area(torso.outline(), paint)
    for sign in SIDES:
        sketch.seam(torso.armhole(sign), 0.022, 84)


def _shirt_cloth(rng: Generator) -> tuple[Cloth, Color]:
    pattern = str(rng.choice(["plain", "columns", "checks", "dots", "flowers"], p=[0.33, 0.2, 0.34, 0.05, 0.08]))
    family = (PALE, PALE, BRIGHT, DARK, DENIM)[int(rng.integers(5))]
    main = jittered(rng, family[int(rng.integers(len(family)))])
    grain = "denim" if family is DENIM and pattern == "plain" else "smooth"
    return make_cloth(rng, pattern, main, grain, period=rng.uniform(0.1, 0.26)), main


def _draw_placket(sketch: Sketch, rng: Generator, torso: Torso, paint: int, main: Color) -> None:
    top, bottom, half = torso.neck_depth, torso.length + torso.hem_curve, 0.045
    sketch.area(box(-half, top, half, bottom), paint, tone=136, rim=92)
    sketch.seam(polygon([(half, top), (half, bottom)]), 0.02, 72)
    sketch.seam(polygon([(-half, top), (-half, bottom)]), 0.012, 96)
    button = sketch.color(contrasting(rng, main))
    for y in np.arange(top + 0.1, bottom - 0.06, rng.uniform(0.15, 0.21)):
        sketch.dot((0.0, float(y)), 0.021, button)


def _draw_chest_pocket(sketch: Sketch, x: float, y: float, paint: int) -> None:
    pocket = polygon([(x - 0.11, y), (x + 0.11, y), (x + 0.11, y + 0.2), (x, y + 0.25), (x - 0.11, y + 0.2)])
    sketch.area(pocket, paint, tone=132, rim=88)
    sketch.seam(polygon([(x - 0.11, y + 0.05), (x + 0.11, y + 0.05)]), 0.012, 96)


def _hung(sketch: Sketch, rng: Generator) -> Sketch:
    """Hang some garments on a hanger."""
    if rng.random() < 0.18:
        sketch.hook = (0.0, 0.06)
    return sketch
