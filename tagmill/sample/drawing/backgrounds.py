"""Backgrounds of a garment: studio, planks, fabric, carpet, tiles, sheets, clutter."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tagmill.sample.drawing.fabric import BRIGHT, PALE, Color, any_color, jittered, make_cloth, mixed
from tagmill.sample.drawing.render import Size, texture

WOODS: tuple[Color, ...] = (
    (196, 164, 126),
    (168, 128, 92),
    (122, 88, 64),
    (214, 196, 168),
    (150, 142, 134),
    (96, 72, 56),
)
GRAYS: tuple[Color, ...] = (
    (248, 248, 247),
    (236, 236, 238),
    (222, 222, 224),
    (200, 202, 206),
    (240, 236, 230),
    (226, 232, 238),
)


def draw_background(rng: Generator, size: Size) -> Image.Image:
    """Return an RGB image of a random kind of background."""
    makers: tuple[Callable[[Generator, Size], Image.Image], ...] = (
        _studio,
        _wood,
        _weave,
        _carpet,
        _tiles,
        _sheet,
        _clutter,
    )
    return makers[int(rng.choice(7, p=[0.3, 0.18, 0.1, 0.1, 0.1, 0.14, 0.08]))](rng, size)


def cast_shadow(background: Image.Image, coverage: Image.Image, rng: Generator, scale: float) -> Image.Image:
    """Return the background with the shadow of what covers it; `scale` in pixels sets the width of the shadow."""
    soft = coverage.reduce(4).filter(ImageFilter.GaussianBlur(max(1.0, scale * rng.uniform(0.006, 0.014))))
    shift = (round(scale * rng.uniform(-0.012, 0.012)), round(scale * rng.uniform(0.004, 0.02)))
    moved = Image.new("L", soft.size)
    moved.paste(soft, shift)
    strength = rng.uniform(0.35, 0.62)
    mask = moved.point([int(value * strength) for value in range(256)]).resize(
        background.size, Image.Resampling.BILINEAR
    )
    shaded = background.copy()
    shaded.paste((14, 12, 18), mask=mask)
    return shaded


def _pick(rng: Generator, family: tuple[Color, ...], spread: int = 8) -> Color:
    return jittered(rng, family[int(rng.integers(len(family)))], spread)


def _cloud(rng: Generator, size: Size, cells: tuple[int, int], spread: float) -> NDArray[np.int16]:
    """Return smooth noise around 0, int16 [H, W, 1], from `cells` (columns, rows) random values."""
    coarse = Image.fromarray(rng.normal(0, spread, (cells[1], cells[0])).astype(np.float32))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)[..., None]


def _grain(rng: Generator, size: Size, shift: int) -> NDArray[np.int16]:
    """Return noise of 256 >> shift steps around 0, int16 [H, W, 1]."""
    noise = np.frombuffer(rng.bytes(size[0] * size[1]), dtype=np.uint8).reshape(size[1], size[0], 1) >> shift
    return noise.astype(np.int16) - (128 >> shift)


def _added(colors: Image.Image | Color, change: NDArray[np.int16]) -> Image.Image:
    base = np.asarray(colors, dtype=np.int16)
    return Image.fromarray(np.clip(base + change, 0, 255).astype(np.uint8))


def _studio(rng: Generator, size: Size) -> Image.Image:
    """Draw a light wall that darkens towards one side and the corners."""
    base = np.array(_pick(rng, GRAYS, 4) if rng.random() < 0.8 else _pick(rng, PALE), dtype=np.float32)
    y, x = np.mgrid[-1:1:12j, -1:1:12j]
    light = rng.normal(0, 6) * x + rng.normal(4, 7) * y - rng.uniform(4, 16) * (x**2 + y**2)
    small = np.clip(base + light[..., None], 0, 255).astype(np.uint8)
    return _added(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC), _grain(rng, size, 6))


def _wood(rng: Generator, size: Size) -> Image.Image:
    """Draw planks along or across the image."""
    upright = rng.random() < 0.5
    length, across = (size[1], size[0]) if upright else size
    base, draw_size = _pick(rng, WOODS), (length, across)
    planks = Image.new("RGB", draw_size, base)
    draw = ImageDraw.Draw(planks)
    width = across / rng.uniform(3, 8)
    for row in range(int(across / width) + 1):
        top, x = row * width, -rng.uniform(0, length)
        while x < length:
            end = x + length * rng.uniform(0.6, 1.3)
            draw.rectangle((x, top, end, top + width), fill=mixed(base, (0, 0, 0), rng.uniform(0.0, 0.14)))
            draw.line((end, top, end, top + width), fill=mixed(base, (20, 14, 10), 0.5), width=2)
            x = end
        draw.line((0, top, length, top), fill=mixed(base, (20, 14, 10), 0.5), width=2)
    veins = _cloud(rng, draw_size, (5, max(8, across // 5)), 9) + _cloud(rng, draw_size, (3, max(8, across // 2)), 5)
    wood = _added(planks, veins)
    return wood.transpose(Image.Transpose.ROTATE_90) if upright else wood


def _weave(rng: Generator, size: Size) -> Image.Image:
    """Draw a coarse tablecloth or curtain."""
    pattern = str(rng.choice(["plain", "checks", "stripes", "dots", "zigzag"]))
    main = mixed(_pick(rng, PALE), any_color(rng), rng.uniform(0, 0.35))
    cloth = make_cloth(rng, pattern, main, "denim", period=1.0)
    drawn = texture(cloth, (0, 0, *size), rng.normal(0, 0.5), max(size) * rng.uniform(0.05, 0.2))
    veiled = Image.blend(drawn, Image.new("RGB", size, main), 0.45)
    return _added(veiled, _cloud(rng, size, (5, 6), 7))


def _carpet(rng: Generator, size: Size) -> Image.Image:
    """Draw a carpet of coarse speckles."""
    base = mixed(_pick(rng, PALE), _pick(rng, BRIGHT), rng.uniform(0, 0.6))
    half = (size[0] // 2, size[1] // 2)
    speckles = Image.fromarray((_grain(rng, half, 2)[..., 0] * 0.9 + 128).astype(np.uint8)).filter(
        ImageFilter.BoxBlur(0.6)
    )
    pile = np.asarray(speckles.resize(size, Image.Resampling.BILINEAR)).astype(np.int16)[..., None] - 128
    return _added(base, pile + _cloud(rng, size, (4, 5), 9))


def _tiles(rng: Generator, size: Size) -> Image.Image:
    """Draw a tiled wall or floor, straight or diagonal."""
    base = _pick(rng, GRAYS + PALE)
    tiles = Image.new("RGB", size, base)
    draw, reach = ImageDraw.Draw(tiles), sum(size)
    step, joint = max(size) * rng.uniform(0.12, 0.36), mixed(base, (90, 86, 84), rng.uniform(0.25, 0.7))
    angle = rng.choice((0.0, np.pi / 4)) + rng.normal(0, 0.05)
    along, across = np.array((np.cos(angle), np.sin(angle))), np.array((-np.sin(angle), np.cos(angle)))
    for direction, normal in ((along, across), (across, along)):
        for row in np.arange(-reach, reach, step):
            start, end = normal * row - direction * reach, normal * row + direction * reach
            draw.line((*start, *end), fill=joint, width=3)
    return _added(tiles.filter(ImageFilter.BoxBlur(0.7)), _cloud(rng, size, (4, 4), 8) + _grain(rng, size, 6))


def _sheet(rng: Generator, size: Size) -> Image.Image:
    """Draw a bed sheet with soft creases."""
    base = _pick(rng, PALE) if rng.random() < 0.65 else mixed(_pick(rng, BRIGHT), (128, 128, 128), 0.2)
    small = (max(8, size[0] // 4), max(8, size[1] // 4))
    creases = Image.new("L", small, 128)
    draw = ImageDraw.Draw(creases)
    for _ in range(int(rng.integers(8, 20))):
        x, y, angle = rng.uniform(0, small[0]), rng.uniform(0, small[1]), rng.normal(0.6, 0.6)
        length = rng.uniform(0.2, 0.8) * small[1]
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        draw.line(((x, y), end), fill=int(128 + rng.normal(0, 44)), width=int(rng.integers(2, 7)))
    soft = creases.filter(ImageFilter.GaussianBlur(2.5)).resize(size, Image.Resampling.BICUBIC)
    return _added(base, np.asarray(soft).astype(np.int16)[..., None] - 128 + _cloud(rng, size, (5, 5), 9))


def _clutter(rng: Generator, size: Size) -> Image.Image:
    """Draw a floor with books, boxes and plates out of focus."""
    base = _pick(rng, WOODS + PALE)
    scene = Image.new("RGB", (size[0] // 2, size[1] // 2), base)
    draw = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(5, 12))):
        edge = rng.random() < 0.8
        x = rng.choice((rng.uniform(-0.05, 0.2), rng.uniform(0.8, 1.05))) if edge else rng.uniform(0, 1)
        center = np.array((x * scene.width, rng.uniform(0, scene.height)))
        half, color = rng.uniform(0.06, 0.2, 2) * scene.width, mixed(any_color(rng), base, 0.25)
        if rng.random() < 0.4:
            draw.ellipse((*(center - half[0]), *(center + half[0])), fill=color, outline=mixed(color, (0, 0, 0), 0.3))
            continue
        turn = rng.uniform(0, 3.14)
        axis, side = np.array((np.cos(turn), np.sin(turn))) * half[0], np.array((-np.sin(turn), np.cos(turn))) * half[1]
        corners = [tuple(center + a * axis + b * side) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        draw.polygon(corners, fill=color, outline=mixed(color, (0, 0, 0), 0.3))
    blurred = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 2.2))).resize(size, Image.Resampling.BICUBIC)
    return _added(blurred, _cloud(rng, size, (5, 5), 7) + _grain(rng, size, 6))
