"""Shoes: sneakers, boots and heels from the side, flats and loafers from above; single or as a pair."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from tagmill.sample.drawing.fabric import BRIGHT, DARK, PALE, Cloth, Color, contrasting, jittered, make_cloth, mixed
from tagmill.sample.drawing.sketch import Points, Sketch, Stroke, curve, ellipse, joined, moved, polygon

#: draws one shoe: from the side the toe points right and the sole is near y = 0.3; from above the toe points down
Maker = Callable[[Sketch, Generator, Cloth, Color], None]


def shoes(rng: Generator) -> Sketch:
    """Draw one shoe or a pair."""
    makers: list[tuple[Maker, bool]] = [(_sneaker, False), (_boot, False), (_heel, False), (_from_above, True)]
    maker, above = makers[int(rng.choice(4, p=[0.34, 0.18, 0.18, 0.3]))]
    family = (DARK, DARK, BRIGHT, PALE)[int(rng.integers(4))]
    main = jittered(rng, family[int(rng.integers(len(family)))])
    pattern = str(rng.choice(["plain", "checks", "dots", "camouflage"], p=[0.85, 0.05, 0.05, 0.05]))
    cloth = make_cloth(rng, pattern, main)
    single = Sketch()
    maker(single, rng, cloth, main)
    if above:
        return _copies(single, _beside(rng), rng)
    if rng.random() < 0.3:
        return _copies(single, [(0.0, (0.0, 0.0), 1.0)], rng)
    return _copies(single, _staggered(rng), rng)


Placement = tuple[float, tuple[float, float], float]


def _beside(rng: Generator) -> list[Placement]:
    gap, turn = rng.uniform(0.27, 0.36), rng.uniform(-0.12, 0.16)
    return [(turn, (-gap, rng.normal(0, 0.04)), 1.0), (-turn, (gap, 0.0), -1.0)]


def _staggered(rng: Generator) -> list[Placement]:
    """Place one shoe behind the other, or toe to heel below it."""
    if rng.random() < 0.5:
        return [(rng.normal(0, 0.05), (rng.uniform(0.1, 0.3), -rng.uniform(0.2, 0.34)), 1.0), (0.0, (0.0, 0.0), 1.0)]
    return [(rng.normal(0, 0.08), (0.0, -rng.uniform(0.62, 0.75)), 1.0), (rng.normal(0, 0.08), (0.05, 0.0), -1.0)]


def _copies(single: Sketch, placements: list[Placement], rng: Generator) -> Sketch:
    """Return a sketch of one shoe drawn at each placement: angle, offset, 1 or -1 to mirror it."""
    pair = Sketch(paints=list(single.paints))
    facing = rng.choice((-1.0, 1.0))
    for angle, offset, mirror in placements:
        for stroke in single.strokes:
            placed = moved(stroke.points * np.array([mirror, 1.0]), angle, offset) * np.array([facing, 1.0])
            pair.strokes.append(Stroke(placed, stroke.paint, stroke.width, stroke.tone, stroke.rim))
    return pair


def _sneaker(sketch: Sketch, rng: Generator, cloth: Cloth, main: Color) -> None:
    upper, sole = (
        sketch.cloth(cloth),
        sketch.color(jittered(rng, (238, 236, 230)) if rng.random() < 0.7 else cloth.accent),
    )
    accent = sketch.color(cloth.accent)
    high = rng.uniform(-0.42, -0.12)
    body = joined(
        curve((-0.66, 0.2), (-0.68, 0.0), (-0.64, high)),
        curve((-0.64, high), (-0.45, high + 0.05), (-0.26, high + 0.0)),
        curve((-0.26, high), (0.05, -0.08), (0.38, 0.04), (0.64, 0.12), (0.68, 0.22)),
    )
    sketch.area(body, upper)
    sketch.area(
        joined(curve((0.36, 0.22), (0.4, 0.1), (0.46, 0.07)), curve((0.46, 0.07), (0.64, 0.12), (0.68, 0.22))),
        sole if rng.random() < 0.5 else accent,
        rim=96,
    )
    sketch.area(polygon([(-0.67, 0.2), (-0.66, high + 0.06), (-0.56, high + 0.08), (-0.52, 0.2)]), accent, rim=96)
    sketch.area(ellipse((-0.45, high + 0.02), 0.18, 0.05), sketch.color(mixed(main, (0, 0, 0), 0.6)), tone=90)
    _draw_laces(sketch, rng, high)
    if rng.random() < 0.6:
        sketch.line(curve((-0.4, 0.12), (-0.15, 0.14), (0.16, -0.04)), accent, rng.uniform(0.04, 0.08))
    thick = rng.uniform(0.1, 0.18)
    base = joined(
        curve((-0.7, 0.17), (-0.2, 0.2), (0.3, 0.19), (0.72, 0.2)),
        curve(
            (0.72, 0.2),
            (0.74, 0.26),
            (0.66, 0.2 + thick),
            (0.0, 0.2 + thick),
            (-0.64, 0.2 + thick),
            (-0.72, 0.26),
            (-0.7, 0.17),
        ),
    )
    sketch.area(base, sole, tone=134, rim=92)
    sketch.seam(curve((-0.68, 0.24), (0.0, 0.255), (0.7, 0.25)), 0.014, 96)


def _draw_laces(sketch: Sketch, rng: Generator, high: float) -> None:
    lace = sketch.color(jittered(rng, (240, 238, 232)))
    for share in np.linspace(0.12, 0.9, int(rng.integers(4, 6))):
        x, y = -0.26 + 0.5 * share, high + (0.0 - high) * share
        sketch.line(polygon([(x - 0.1, y + 0.1), (x + 0.07, y - 0.0)]), lace, 0.034)


def _boot(sketch: Sketch, rng: Generator, cloth: Cloth, main: Color) -> None:
    upper = sketch.cloth(cloth)
    sole = sketch.color(mixed(main, (16, 14, 14), 0.75) if rng.random() < 0.7 else (202, 172, 128))
    top = -rng.uniform(0.55, 0.95)
    body = joined(
        curve((-0.46, 0.22), (-0.48, 0.0), (-0.44, top)),
        curve((-0.44, top), (-0.02, top + 0.02)),
        curve((-0.02, top + 0.02), (-0.03, -0.22), (0.18, -0.08), (0.44, 0.0), (0.55, 0.12), (0.55, 0.22)),
    )
    sketch.area(body, upper)
    sketch.seam(curve((-0.03, -0.2), (-0.2, -0.05), (-0.24, 0.2)), 0.022, 84)
    if rng.random() < 0.5:
        lace = sketch.color(contrasting(rng, main))
        for y in np.arange(top + 0.12, -0.12, 0.1):
            sketch.line(polygon([(-0.18, float(y) + 0.05), (-0.03, float(y))]), lace, 0.03)
    else:
        sketch.area(polygon([(-0.3, top), (-0.16, top), (-0.2, -0.2), (-0.28, -0.2)]), sole, tone=120)
    sketch.seam(polygon([(-0.44, top + 0.06), (-0.03, top + 0.07)]), 0.016, 88)
    sketch.area(
        polygon([(-0.5, 0.2), (0.58, 0.2), (0.57, 0.3), (-0.06, 0.3), (-0.1, 0.27), (-0.14, 0.36), (-0.49, 0.36)]), sole
    )


def _heel(sketch: Sketch, rng: Generator, cloth: Cloth, main: Color) -> None:
    upper, inner = sketch.cloth(cloth), sketch.color(mixed(main, (214, 184, 156), 0.7))
    lift = rng.uniform(0.2, 0.42)
    heel_x = rng.uniform(0.05, 0.16)
    sole: Points = curve((-0.6, 0.3 - lift), (-0.3, 0.32 - lift), (0.1, 0.26), (0.6, 0.3))
    back = polygon([(-0.62, 0.26 - lift), (-0.62 + heel_x + 0.14, 0.34 - lift), (-0.58 + heel_x, 0.34), (-0.62, 0.34)])
    sketch.area(back, sketch.color(mixed(main, (0, 0, 0), 0.35)))
    top = curve(
        (0.66, 0.28), (0.42, 0.14), (0.16, 0.02), (-0.1, 0.12 - lift * 0.5), (-0.35, 0.12 - lift), (-0.62, -0.04 - lift)
    )
    sketch.area(joined(sole, top, polygon([(-0.66, 0.12 - lift)])), upper)
    opening = curve((-0.6, 0.0 - lift), (-0.35, 0.13 - lift), (-0.1, 0.14 - lift * 0.5), (0.12, 0.05))
    sketch.line(opening, inner, 0.04, 112)
    sketch.line(sole, sketch.color(mixed(main, (0, 0, 0), 0.6)), 0.035)
    if rng.random() < 0.45:
        strap = curve((-0.6, -0.06 - lift), (-0.4, -0.2 - lift), (-0.22, -0.04 - lift), (-0.2, 0.1 - lift * 0.8))
        sketch.line(strap, upper, 0.045)


def _from_above(sketch: Sketch, rng: Generator, cloth: Cloth, main: Color) -> None:
    """Draw a left shoe seen from above: flat, loafer or slipper."""
    upper, inner = sketch.cloth(cloth), sketch.color(mixed(main, (222, 196, 166), rng.uniform(0.3, 0.9)))
    toe = rng.uniform(0.12, 0.2)
    right = curve((0.0, -0.72), (0.16, -0.68), (0.19, -0.4), (0.2, 0.1), (0.25, 0.36), (toe, 0.64), (0.0, 0.72))
    left = right[::-1] * np.array([-0.9, 1.0])
    sole = sketch.color(mixed(main, (20, 18, 18), 0.5))
    outline = joined(right, left)
    sketch.area(outline * 1.05, sole)
    sketch.area(outline, upper)
    throat = rng.uniform(0.02, 0.34)
    hole = curve((0.0, -0.66), (0.12, -0.6), (0.13, -0.3), (0.12, throat - 0.08), (0.0, throat))
    sketch.area(joined(hole, hole[::-1] * np.array([-0.92, 1.0])), inner, tone=108, rim=70)
    if throat < 0.16:
        _draw_vamp(sketch, rng, throat, sketch.color(cloth.accent))
    elif rng.random() < 0.6:
        sketch.dot((0.0, throat + 0.06), 0.05, sketch.color(cloth.accent))


def _draw_vamp(sketch: Sketch, rng: Generator, throat: float, accent: int) -> None:
    """Draw laces, or the strap of a loafer, in front of the opening."""
    if rng.random() < 0.5:
        for step in range(4):
            y = throat - 0.12 + step * 0.085
            sketch.line(polygon([(-0.09, y), (0.09, y)]), accent, 0.03)
    else:
        sketch.line(curve((-0.2, throat + 0.08), (0.0, throat + 0.1), (0.21, throat + 0.08)), accent, 0.07)
    sketch.seam(curve((-0.18, throat), (-0.12, 0.42), (0.0, 0.48), (0.12, 0.42), (0.19, throat)), 0.02, 84)
