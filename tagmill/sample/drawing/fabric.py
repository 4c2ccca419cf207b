"""Cloth: colors and periodic pattern tiles."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
#: uint8 [side, side, 3], repeats in both directions
Tile = NDArray[np.uint8]

#: pixels of a tile's side, a power of two
SIDE = 64

DARK: tuple[Color, ...] = ((34, 38, 52), (44, 44, 46), (27, 51, 74), (62, 38, 44), (38, 62, 54), (70, 56, 48))
BRIGHT: tuple[Color, ...] = (
    (196, 62, 58), (226, 120, 62), (236, 178, 64), (96, 150, 92), (52, 128, 134), (66, 116, 178),
    (98, 92, 164), (176, 78, 122), (214, 92, 112), (134, 86, 60), (110, 122, 72), (150, 40, 58),
)  # fmt: skip
PALE: tuple[Color, ...] = (
    (240, 236, 228), (232, 220, 200), (222, 196, 188), (196, 214, 222), (206, 216, 192), (238, 216, 158),
    (216, 204, 226), (168, 174, 178), (242, 206, 206), (188, 170, 148),
)  # fmt: skip
DENIM: tuple[Color, ...] = ((62, 88, 130), (44, 62, 96), (112, 142, 178), (38, 44, 60), (148, 170, 196))


@dataclass(frozen=True)
class Cloth:
    """A periodic pattern; `period` is the length of one tile in garment units."""

    tile: Tile
    main: Color
    accent: Color
    period: float
    #: color to which the cloth fades at its lower end
    fade: Color | None = None


def jittered(rng: Generator, color: Color, spread: int = 12) -> Color:
    """Return a random color near a color."""
    red, green, blue = (int(np.clip(value + rng.integers(-spread, spread + 1), 6, 250)) for value in color)
    return red, green, blue


def mixed(first: Color, second: Color, share: float) -> Color:
    """Return a mix of two colors with `share` of the second."""
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def brightness(color: Color) -> float:
    """Return the luma, 0..255."""
    return 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]


def any_color(rng: Generator) -> Color:
    """Return a dark, bright or pale color."""
    family = (DARK, BRIGHT, BRIGHT, PALE)[int(rng.integers(4))]
    return jittered(rng, family[int(rng.integers(len(family)))])


def contrasting(rng: Generator, color: Color) -> Color:
    """Return a color whose brightness differs clearly."""
    families = (
        (PALE, BRIGHT) if brightness(color) < 120 else (DARK, BRIGHT) if brightness(color) > 170 else (PALE, DARK)
    )
    family = families[int(rng.integers(2))]
    options = sorted(family, key=lambda option: -abs(brightness(option) - brightness(color)))[
        : max(3, len(family) // 2)
    ]
    return jittered(rng, options[int(rng.integers(len(options)))])


def plain(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Leave the color unchanged."""


def stripes(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw one broad band, and sometimes a narrow one."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    broad = side * rng.uniform(0.15, 0.5)
    draw.rectangle((0, 0, side, broad), fill=accent)
    if rng.random() < 0.4:
        draw.rectangle((0, broad + side * 0.14, side, broad + side * 0.22), fill=accent)


def columns(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw upright stripes."""
    stripes(rng, canvas, accent)
    canvas.paste(canvas.transpose(Image.Transpose.ROTATE_90))


def checks(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Weave two equal sets of bands, with a thin line of a third color."""
    side = canvas.width
    main = canvas.getpixel((0, 0))
    base = np.asarray(main, dtype=np.float32)
    band = np.zeros(side, dtype=np.float32)
    band[: int(side * rng.uniform(0.3, 0.5))] = 0.5
    mix = (band[:, None] + band[None, :])[..., None]
    woven = base * (1 - mix) + np.asarray(accent, dtype=np.float32) * mix
    canvas.paste(Image.fromarray(woven.astype(np.uint8)))
    if rng.random() < 0.6:
        thin, at = any_color(rng), side * 0.75
        draw = ImageDraw.Draw(canvas)
        draw.rectangle((at, 0, at + side * 0.05, side), fill=thin)
        draw.rectangle((0, at, side, at + side * 0.05), fill=thin)


def dots(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw dots in two shifted rows."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    radius = side * rng.uniform(0.1, 0.2)
    for x, y in ((0.25, 0.25), (0.75, 0.75)):
        draw.ellipse((x * side - radius, y * side - radius, x * side + radius, y * side + radius), fill=accent)


def flowers(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw three flowers with five petals each."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    second = any_color(rng)
    for x, y, size in ((0.27, 0.3, 0.1), (0.74, 0.68, 0.085), (0.74, 0.2, 0.05)):
        start = rng.uniform(0, 6.28)
        for petal in range(5):
            angle = start + petal * 2 * np.pi / 5
            cx, cy, r = side * (x + size * np.cos(angle)), side * (y + size * np.sin(angle)), side * size * 0.78
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=accent if size > 0.06 else second)
        r = side * size * 0.6
        draw.ellipse((side * x - r, side * y - r, side * x + r, side * y + r), fill=second)


def zigzag(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw two zigzag lines."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    width = int(side * rng.uniform(0.08, 0.16))
    for top in (0.1, 0.6):
        corners = [(side * x / 4, side * (top + (0.22 if x % 2 else 0.0))) for x in range(-1, 6)]
        draw.line(corners, fill=accent, width=width, joint="curve")


def camouflage(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw blots of two colors."""
    side = canvas.width
    waves = np.linspace(0, 2 * np.pi, side, endpoint=False)
    x, y = waves[None, :], waves[:, None]
    phase = rng.uniform(0, 6.28, 6)
    field = np.sin(x + 2 * np.sin(y + phase[0]) + phase[1]) + np.sin(2 * y + 1.5 * np.sin(x + phase[2]) + phase[3])
    field = field + 0.6 * np.sin(3 * x - 2 * y + phase[4])
    canvas.paste(accent, mask=Image.fromarray(((field > 0.7) * 255).astype(np.uint8)))
    second = mixed(accent, (30, 30, 30), 0.5)
    canvas.paste(second, mask=Image.fromarray(((field < -1.0) * 255).astype(np.uint8)))


def triangles(rng: Generator, canvas: Image.Image, accent: Color) -> None:
    """Draw scattered triangles."""
    side, draw = canvas.width, ImageDraw.Draw(canvas)
    for x, y in ((0.25, 0.28), (0.75, 0.72)):
        draw.regular_polygon((side * x, side * y, side * 0.19), 3, int(rng.integers(0, 120)), fill=accent)


Pattern = Callable[[Generator, Image.Image, Color], None]
PATTERNS: dict[str, Pattern] = {
    "plain": plain, "stripes": stripes, "columns": columns, "checks": checks, "dots": dots, "flowers": flowers,
    "zigzag": zigzag, "camouflage": camouflage, "triangles": triangles,
}  # fmt: skip


def grain(rng: Generator, kind: str) -> NDArray[np.int16]:
    """Return a brightness change per tile pixel, int16 [SIDE, SIDE]: "smooth", "denim" or "knit"."""
    noise = rng.integers(-5, 6, (SIDE, SIDE), dtype=np.int16)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    if kind == "denim":
        streaks = np.repeat(rng.integers(-9, 10, (1, SIDE), dtype=np.int16), SIDE, axis=0)
        return (noise * 2 + streaks + np.where((x + y) % 4 < 2, 4, -4)).astype(np.int16)
    if kind == "knit":
        return (noise + np.where((x % 8 + np.abs(y % 8 - 4)) % 8 < 4, 8, -8)).astype(np.int16)
    return noise


def _softened(tile: NDArray[np.int16]) -> NDArray[np.int16]:
    """Blur a tile across its borders, so that sampling shows no jagged edges."""
    for axis in (0, 1):
        tile = (np.roll(tile, 1, axis) + 2 * tile + np.roll(tile, -1, axis)) // 4
    return tile


def make_cloth(rng: Generator, pattern: str, main: Color, kind: str = "smooth", period: float = 0.0) -> Cloth:
    """Return a cloth of a named pattern; for a period of 0 a random one is used."""
    accent = contrasting(rng, main)
    canvas = Image.new("RGB", (SIDE * 2, SIDE * 2), main)
    PATTERNS[pattern](rng, canvas, accent)
    pixels = _softened(np.asarray(canvas.reduce(2)).astype(np.int16)) + grain(rng, kind)[..., None]
    fade = contrasting(rng, main) if pattern == "plain" and rng.random() < 0.07 else None
    length = period or float(rng.uniform(0.14, 0.42))
    return Cloth(np.clip(pixels, 0, 255).astype(np.uint8), main, accent, length, fade)
