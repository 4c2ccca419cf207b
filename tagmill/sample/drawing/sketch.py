"""A vector drawing of one garment: filled areas, lines and seams in garment units.

Garment units: x to the right, y down, a torso is about one unit wide. Curves are float64 [n, 2].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tagmill.sample.drawing.fabric import Cloth, Color

Points = NDArray[np.float64]
Corner = tuple[float, float]

#: shading that does not change a color; 0 is black, 255 is twice as bright
NEUTRAL = 128
#: paint of pixels that are not drawn
NOTHING = 0
#: sign of x on the left and on the right of a garment
SIDES = (-1.0, 1.0)


@dataclass(frozen=True)
class Stroke:
    """One step of a drawing."""

    points: Points
    #: index into the sketch's paints, or None to change the shading alone
    paint: int | None
    #: line width in garment units, 0 for a filled area
    width: float
    #: shading of the area or line, 0..255
    tone: int
    #: shading of a filled area's edge, 0..255
    rim: int = NEUTRAL
    #: the shading is blurred, and drawn on top of everything else
    soft: bool = False


@dataclass(frozen=True)
class Weave:
    """A cloth and the angle of its pattern, in radians clockwise."""

    cloth: Cloth
    angle: float


@dataclass
class Sketch:
    """Strokes and their paints, by index; paint 0 is nothing."""

    strokes: list[Stroke] = field(default_factory=list)
    paints: list[Weave | Color] = field(default_factory=lambda: [(0, 0, 0)])
    #: start of a hanger's hook, if there is one
    hook: Corner | None = None

    def cloth(self, cloth: Cloth, angle: float = 0.0) -> int:
        """Add a cloth and return its paint."""
        self.paints.append(Weave(cloth, angle))
        return len(self.paints) - 1

    def color(self, color: Color) -> int:
        """Add a plain color and return its paint."""
        self.paints.append(color)
        return len(self.paints) - 1

    def area(self, points: Points, paint: int, tone: int = NEUTRAL, rim: int = 104) -> None:
        """Fill a closed outline; its edge is shaded with `rim`."""
        self.strokes.append(Stroke(points, paint, 0.0, tone, rim))

    def line(self, points: Points, paint: int, width: float, tone: int = NEUTRAL) -> None:
        """Draw a line of a paint."""
        self.strokes.append(Stroke(points, paint, width, tone))

    def seam(self, points: Points, width: float = 0.016, tone: int = 88) -> None:
        """Darken (tone < 128) or lighten a line without changing its paint."""
        self.strokes.append(Stroke(points, None, width, tone))

    def fold(self, points: Points, width: float, tone: int) -> None:
        """Darken or lighten the cloth softly along a line, for example a pleat."""
        self.strokes.append(Stroke(points, None, width, tone, soft=True))

    def dot(self, center: Corner, radius: float, paint: int, rim: int = 84) -> None:
        """Fill a circle, for example a button."""
        self.area(ellipse(center, radius, radius, 14), paint, rim=rim)


def curve(*corners: Corner, steps: int = 7) -> Points:
    """Return a smooth open line through the corners (Catmull-Rom), with `steps` points from each to the next."""
    knots = np.array([corners[0], *corners, corners[-1]], dtype=np.float64)
    before, left, right, after = (knots[i : len(knots) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    bent = (3 * left - before - 3 * right + after) * t**3 + (2 * before - 5 * left + 4 * right - after) * t**2
    smooth = left + ((right - before) * t + bent) / 2
    line: Points = np.concatenate([smooth.reshape(-1, 2), knots[-1:]])
    return line


def joined(*lines: Points) -> Points:
    """Return the lines joined to one."""
    return np.concatenate(lines)


def mirrored(points: Points) -> Points:
    """Return the line mirrored at x = 0, in reverse order."""
    reflected: Points = points[::-1] * np.array([-1.0, 1.0])
    return reflected


def symmetric(right_half: Points) -> Points:
    """Return a closed outline from its right half, which runs from the top to the bottom of the middle line."""
    return np.concatenate([right_half, mirrored(right_half)])


def ellipse(center: Corner, radius_x: float, radius_y: float, steps: int = 40) -> Points:
    """Return a closed ellipse."""
    t = np.linspace(0.0, 2 * np.pi, steps, endpoint=False)
    return np.stack([center[0] + radius_x * np.cos(t), center[1] + radius_y * np.sin(t)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return a closed rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def polygon(corners: Sequence[Corner]) -> Points:
    """Return a closed outline with sharp corners."""
    return np.array(corners, dtype=np.float64)


def moved(points: Points, angle: float, offset: Corner, scale: float = 1.0) -> Points:
    """Return the points scaled, rotated clockwise about 0, 0 by `angle` radians, then shifted."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Points = (points * scale) @ np.array([[cos, sin], [-sin, cos]]) + np.array(offset)
    return turned
