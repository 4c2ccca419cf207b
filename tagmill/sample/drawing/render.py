"""Render a sketch to pixels: pose, smooth edges, folds and light."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tagmill.sample.drawing.fabric import Cloth
from tagmill.sample.drawing.sketch import NEUTRAL, NOTHING, Points, Sketch, Stroke, Weave

#: shapes are drawn at this multiple of the image's size and then reduced
SUPERSAMPLING = 2
#: light and folds are soft, so they are computed at the image's size divided by this
SOFT = 4

Size = tuple[int, int]


@dataclass(frozen=True)
class Pose:
    """The pose of a garment in the image: a map from garment units to pixels."""

    #: [3, 3], acts on columns (x, y, 1)
    matrix: NDArray[np.float64]
    #: radians, clockwise
    rotation: float
    #: pixels per garment unit
    scale: float
    #: [waves, 5]: direction x, y in radians per unit, phase, amplitude x, y in units
    wobble: NDArray[np.float64]

    def place(self, points: Points) -> Points:
        """Return pixels [n, 2] for garment units [n, 2]."""
        phase = points @ self.wobble[:, :2].T + self.wobble[:, 2]
        bent = points + np.sin(phase) @ self.wobble[:, 3:]
        lifted = np.concatenate([bent, np.ones((len(bent), 1))], axis=1) @ self.matrix.T
        placed: Points = lifted[:, :2] / lifted[:, 2:]
        return placed


@dataclass(frozen=True)
class Rendered:
    """A garment without background: RGB, and its coverage of each pixel (L, 255 is full)."""

    rgb: Image.Image
    coverage: Image.Image


def pose_for(sketch: Sketch, size: Size, rng: Generator, tilt: float = 7.0) -> Pose:
    """Return a pose that shows the whole sketch; `tilt` is the rotation's standard deviation in degrees."""
    rotation = float(np.radians(np.clip(rng.normal(0, tilt), -28, 28)))
    waves = 3
    wobble = np.concatenate(
        [rng.normal(0, 2.4, (waves, 2)), rng.uniform(0, 6.28, (waves, 1)), rng.normal(0, 0.014, (waves, 2))], axis=1
    )
    cos, sin = np.cos(rotation), np.sin(rotation)
    shear = rng.normal(0, 0.03)
    turn = np.array([[cos, -sin + shear, 0], [sin, cos, 0], [rng.normal(0, 0.015), rng.normal(0, 0.03), 1]])
    loose = Pose(turn, rotation, 1.0, wobble)
    drawn = np.concatenate([loose.place(s.points) for s in sketch.strokes if s.paint is not None])
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    scale = float(rng.uniform(0.78, 0.95) * np.min(np.array(size) / (high - low)))
    room = (np.array(size) - (high - low) * scale) / 2
    shift = np.array(size) / 2 - (low + high) / 2 * scale + room * rng.uniform(-0.6, 0.6, 2)
    fit = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]])
    return Pose(fit @ turn, rotation, scale, wobble)


def render(sketch: Sketch, pose: Pose, size: Size, rng: Generator) -> Rendered:
    """Render a sketch without background."""
    paints = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), NOTHING)
    tones = Image.new("L", size, NEUTRAL)
    for stroke in sketch.strokes:
        if stroke.soft:
            continue
        _draw_stroke(stroke, pose, ImageDraw.Draw(paints), ImageDraw.Draw(tones))
    outside = paints.point([255] + [0] * 255).reduce(SUPERSAMPLING)
    coverage = outside.point([255 - value for value in range(256)])
    rgb = _colored(sketch, paints, pose)
    soft = _soft_light(coverage, _folds(sketch, pose, size, rng), rng)
    return Rendered(_lit(rgb, tones, soft, rng), coverage)


def _draw_stroke(stroke: Stroke, pose: Pose, paints: ImageDraw.ImageDraw, tones: ImageDraw.ImageDraw) -> None:
    pixels = pose.place(stroke.points)
    coarse = list(map(tuple, pixels.tolist()))
    fine = list(map(tuple, (pixels * SUPERSAMPLING).tolist()))
    if stroke.width:
        width = max(1, round(stroke.width * pose.scale))
        tones.line(coarse, fill=stroke.tone, width=width)
        if stroke.paint is not None:
            paints.line(fine, fill=stroke.paint, width=max(1, round(stroke.width * pose.scale * SUPERSAMPLING)))
        return
    tones.polygon(coarse, fill=stroke.tone, outline=stroke.rim, width=max(1, round(0.02 * pose.scale)))
    if stroke.paint is not None:
        paints.polygon(fine, fill=stroke.paint)


def _colored(sketch: Sketch, paints: Image.Image, pose: Pose) -> Image.Image:
    """Return RGB: plain colors through a palette, then each cloth through its own mask."""
    first = sketch.strokes[0].paint or 1
    colors = [paint.cloth.main if isinstance(paint, Weave) else paint for paint in sketch.paints]
    # Pixels that are not drawn get the garment's color, so that half covered edge pixels show no other color.
    colors[NOTHING] = colors[first]
    flat = paints.copy()
    flat.putpalette([value for color in colors for value in color])
    rgb = flat.convert("RGB").reduce(SUPERSAMPLING)
    for index, paint in enumerate(sketch.paints):
        if isinstance(paint, Weave):
            share = paints.point([255 if value == index else 0 for value in range(256)]).reduce(SUPERSAMPLING)
            if bounds := share.getbbox():
                pattern = texture(paint.cloth, bounds, pose.rotation + paint.angle, pose.scale)
                rgb.paste(pattern, bounds, share.crop(bounds))
    return rgb


def texture(cloth: Cloth, bounds: tuple[int, int, int, int], angle: float, scale: float) -> Image.Image:
    """Return RGB pixels of a cloth for the part `bounds` of the image; `scale` is in pixels per garment unit."""
    left, top, right, bottom = bounds
    tile, period = Image.fromarray(cloth.tile), cloth.period * scale
    while tile.width > max(8.0, 1.1 * period):
        tile = tile.reduce(2)
    side = tile.width
    step = side / period
    x = np.arange(left, right, dtype=np.float32) * step
    y = np.arange(top, bottom, dtype=np.float32)[:, None] * step
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    # 8192, a multiple of every side, keeps the numbers positive, so that truncation always rounds down.
    across = (x * cos + y * sin + np.float32(8192)).astype(np.int32) & (side - 1)
    down = (y * cos - x * sin + np.float32(8192)).astype(np.int32) & (side - 1)
    cells = np.asarray(tile.convert("RGBA")).view(np.uint32).ravel()
    image = Image.fromarray(cells.take(down * side + across).view(np.uint8).reshape(bottom - top, right - left, 4))
    rgb = image.convert("RGB")
    if cloth.fade:
        rgb.paste(cloth.fade, mask=Image.linear_gradient("L").resize(rgb.size))
    return rgb


def _lit(rgb: Image.Image, tones: Image.Image, soft: Image.Image, rng: Generator) -> Image.Image:
    """Return RGB with seams, folds, roundness and a little noise."""
    light = np.asarray(soft.resize(rgb.size, Image.Resampling.BICUBIC), dtype=np.uint16)
    detail = np.asarray(tones.filter(ImageFilter.BoxBlur(1)), dtype=np.uint16)
    noise = np.frombuffer(rng.bytes(light.size), dtype=np.uint8).reshape(light.shape) >> 5
    shade = np.clip((light * detail >> 7) + noise - 3, 0, 255)
    lit = np.asarray(rgb, dtype=np.uint16) * shade[..., None] >> 7
    return Image.fromarray(np.minimum(lit, 255).astype(np.uint8))


def _folds(sketch: Sketch, pose: Pose, size: Size, rng: Generator) -> Image.Image:
    """Return L at 1/SOFT of the size: the sketch's folds and some random creases."""
    width, height = -(-size[0] // SOFT), -(-size[1] // SOFT)
    folds = Image.new("L", (width, height), NEUTRAL)
    draw = ImageDraw.Draw(folds)
    for stroke in sketch.strokes:
        if stroke.soft:
            line = list(map(tuple, (pose.place(stroke.points) / SOFT).tolist()))
            draw.line(line, fill=stroke.tone, width=max(1, round(stroke.width * pose.scale / SOFT)))
    for _ in range(int(rng.integers(5, 13))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angle, length = rng.normal(1.57, 0.7), rng.uniform(0.1, 0.35) * height
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        draw.line(
            ((x, y), end), fill=int(NEUTRAL + rng.choice((-1, 1)) * rng.uniform(14, 46)), width=int(rng.integers(1, 4))
        )
    return folds.filter(ImageFilter.GaussianBlur(1.3))


def _soft_light(coverage: Image.Image, folds: Image.Image, rng: Generator) -> Image.Image:
    """Return L at 1/SOFT of the size: folds, rounded towards the edges, light from one side."""
    small = coverage.reduce(SOFT)
    width = small.width
    round_edge = np.asarray(small.filter(ImageFilter.GaussianBlur(max(1.0, width / 40))), dtype=np.float32) / 255
    patches = Image.fromarray(rng.normal(0, 9, (7, 6)).astype(np.float32)).resize(small.size, Image.Resampling.BICUBIC)
    slope = np.linspace(-1, 1, width, dtype=np.float32) * rng.normal(0, 7)
    light = (np.asarray(folds, dtype=np.float32) + np.asarray(patches) + slope) * (0.66 + 0.37 * round_edge)
    return Image.fromarray(np.clip(light, 30, 200).astype(np.uint8))
