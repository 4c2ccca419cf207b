"""Shared parts of upper-body garments: body outline, sleeves, necklines, hems."""

from dataclasses import dataclass

import numpy as np

from tagmill.sample.drawing.sketch import Points, Sketch, curve, joined, mirrored, polygon, symmetric


@dataclass(frozen=True)
class Torso:
    """Half widths (x) and heights (y) of a body in garment units; the neck's highest point is at y = 0."""

    neck: float
    neck_depth: float
    shoulder: float
    slope: float
    armpit: float
    chest: float
    waist: float
    hem: float
    length: float
    #: a V instead of a round neckline
    pointed: bool = False
    #: how much lower the middle of the hem is than its sides
    hem_curve: float = 0.02

    def neckline(self) -> Points:
        """Return the front neckline, from left to right."""
        depth = self.neck_depth
        right = (
            polygon([(0.0, depth), (self.neck * 0.5, depth * 0.52), (self.neck, 0.0)])
            if self.pointed
            else curve(
                (0.0, depth), (self.neck * 0.62, depth * 0.78), (self.neck * 0.95, depth * 0.3), (self.neck, 0.0)
            )
        )
        return joined(mirrored(right), right)

    def side(self) -> Points:
        """Return the right side from the neck over shoulder and armpit to the hem's middle."""
        middle = (self.armpit + self.length) / 2
        return joined(
            curve((self.neck, 0.0), (self.shoulder, self.slope)),
            curve((self.shoulder, self.slope), (self.chest * 0.97, self.armpit * 0.7), (self.chest, self.armpit)),
            curve((self.chest, self.armpit), (self.waist, middle), (self.hem, self.length)),
            curve(
                (self.hem, self.length),
                (self.hem * 0.5, self.length + self.hem_curve),
                (0.0, self.length + self.hem_curve),
            ),
        )

    def outline(self) -> Points:
        """Return the closed body outline."""
        right_neck = self.neckline()[len(self.neckline()) // 2 :]
        return symmetric(joined(right_neck, self.side()))

    def back(self) -> Points:
        """Return the closed outline of the back's inside, seen through the neckline."""
        return joined(self.neckline(), curve((self.neck, 0.0), (0.0, self.neck_depth * 0.18), (-self.neck, 0.0)))

    def armhole(self, sign: float) -> Points:
        """Return the seam between body and sleeve; sign is 1 for the right one, -1 for the left one."""
        line = curve((self.shoulder, self.slope), (self.chest * 0.95, self.armpit * 0.68), (self.chest, self.armpit))
        seam: Points = line * np.array([sign, 1.0])
        return seam


@dataclass(frozen=True)
class Sleeve:
    """A sleeve; angles are in radians, 0 is straight out and pi / 2 straight down."""

    length: float
    cuff: float
    upper_angle: float
    lower_angle: float

    def edges(self, torso: Torso) -> tuple[Points, Points]:
        """Return upper and lower edge of the right sleeve, from the body to the cuff."""
        start = np.array((torso.shoulder, torso.slope))
        along = np.array([(np.cos(a), np.sin(a)) for a in (self.upper_angle, self.lower_angle)])
        elbow = start + along[0] * self.length / 2
        tip = elbow + along[1] * self.length / 2
        across = np.array([(-a[1], a[0]) for a in along])
        root = torso.armpit - torso.slope
        bend = across.mean(axis=0) / np.linalg.norm(across.mean(axis=0))
        low_elbow = elbow + bend * (root * 0.5 + self.cuff * 0.5) * 0.92
        low_tip = tip + across[1] * self.cuff
        inner = ((torso.chest * 0.8, torso.armpit * 0.96), (torso.chest - 0.01, torso.armpit))
        upper = curve((torso.shoulder * 0.7, torso.slope * 0.62), tuple(start), tuple(elbow), tuple(tip))
        lower = curve(*inner, tuple(low_elbow), tuple(low_tip))
        return upper, lower


def draw_sleeve(
    sketch: Sketch, torso: Torso, sleeve: Sleeve, sign: float, paint: int, tone: int = 124
) -> tuple[Points, Points]:
    """Draw one sleeve and return its upper and lower edge."""
    upper, lower = (edge * np.array([sign, 1.0]) for edge in sleeve.edges(torso))
    sketch.area(joined(upper, lower[::-1]), paint, tone, rim=92)
    return upper, lower


def draw_cuff(sketch: Sketch, edges: tuple[Points, Points], paint: int, share: float) -> None:
    """Draw a band over the last `share` of a sleeve."""
    upper, lower = edges
    up, low = (
        edge[-1] + (edge[-3] - edge[-1]) / np.linalg.norm(edge[-3] - edge[-1]) * share for edge in (upper, lower)
    )
    sketch.area(np.stack([up, upper[-1], lower[-1], low]), paint)
    sketch.seam(np.stack([up, low]))


def draw_hem(sketch: Sketch, torso: Torso, paint: int, height: float) -> None:
    """Draw a band along the hem."""
    y, bulge = torso.length, torso.hem_curve
    half = torso.hem + (torso.waist - torso.hem) * height
    top = curve((-half, y - height), (0.0, y - height + bulge), (half, y - height))
    bottom = curve(
        (torso.hem, y), (torso.hem * 0.5, y + bulge), (0.0, y + bulge), (-torso.hem * 0.5, y + bulge), (-torso.hem, y)
    )
    sketch.area(joined(top, bottom), paint)
    sketch.seam(top)


def draw_hem_stitch(sketch: Sketch, torso: Torso) -> None:
    """Draw the stitched line above the hem."""
    y, half = torso.length - 0.05, torso.hem * 0.99
    sketch.seam(
        curve((-half, y), (-half * 0.5, y + torso.hem_curve), (half * 0.5, y + torso.hem_curve), (half, y)), 0.012, 98
    )
