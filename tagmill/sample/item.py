"""Draw one item: a garment in a random pose on a random background, with its mask."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tagmill.sample.drawing.backgrounds import cast_shadow, draw_background
from tagmill.sample.drawing.render import Pose, Rendered, Size, pose_for, render
from tagmill.sample.drawing.sketch import Corner, Sketch, curve
from tagmill.sample.garments.categories import GARMENTS

CATEGORIES: tuple[str, ...] = tuple(GARMENTS)
MASK_LABELS: tuple[str, ...] = ("background", *CATEGORIES)

#: long side divided by short side
SHAPES = (1.0, 1.2, 4 / 3, 4 / 3, 1.5)
#: standard deviation of the rotation in degrees; 7 for all other categories
TILT = {"shoes": 12.0, "hat": 11.0}


@dataclass(frozen=True)
class SampleItem:
    """A drawn item: an RGB image, or RGBA on a transparent background."""

    image: Image.Image
    #: uint8 [H, W], index into MASK_LABELS
    mask: NDArray[np.uint8]


def draw_item(category: str, rng: Generator, transparent: bool | None = None) -> SampleItem:
    """Draw a garment of a category; sides are 240 to 640 pixels.

    `transparent` leaves out the background; None leaves it out in one of five items.
    """
    sketch = GARMENTS[category](rng)
    size = _size(rng, sketch)
    pose = pose_for(sketch, size, rng, TILT.get(category, 7.0))
    rendered = render(sketch, pose, size, rng)
    covered = np.asarray(rendered.coverage) >= 128
    mask = (covered * np.uint8(MASK_LABELS.index(category))).astype(np.uint8)
    if rng.random() < 0.2 if transparent is None else transparent:
        return SampleItem(_cut_out(rendered), mask)
    background = draw_background(rng, size)
    if sketch.hook:
        _draw_hanger(background, pose, sketch.hook)
    shaded = cast_shadow(background, rendered.coverage, rng, float(min(size)))
    return SampleItem(Image.composite(rendered.rgb, shaded, rendered.coverage), mask)


def _size(rng: Generator, sketch: Sketch) -> Size:
    """Return width and height. Wide garments rarely get an upright image, and long ones rarely a wide one."""
    short = int(rng.integers(240, 401))
    long = min(640, round(short * SHAPES[int(rng.integers(len(SHAPES)))]))
    width, height = np.ptp(np.concatenate([stroke.points for stroke in sketch.strokes]), axis=0)
    return (long, short) if rng.random() < (0.7 if width > height else 0.12) else (short, long)


def _cut_out(rendered: Rendered) -> Image.Image:
    """Return RGBA. Fully transparent pixels are black, which compresses well."""
    cut = Image.new("RGBA", rendered.rgb.size)
    opaque = rendered.rgb.convert("RGBA")
    opaque.putalpha(rendered.coverage)
    cut.paste(opaque, mask=rendered.coverage.point([0] + [255] * 255))
    return cut


def _draw_hanger(background: Image.Image, pose: Pose, hook: Corner) -> None:
    """Draw a hanger whose hook rises from the neck of the garment."""
    x, y = hook
    draw = ImageDraw.Draw(background)
    wood, steel = (150, 108, 70), (150, 152, 156)
    arms = pose.place(curve((x - 0.32, y + 0.1), (x, y - 0.03), (x + 0.32, y + 0.1)))
    bow = pose.place(
        curve((x, y - 0.03), (x, y - 0.14), (x + 0.06, y - 0.2), (x + 0.02, y - 0.27), (x - 0.06, y - 0.23))
    )
    width = max(2, round(pose.scale * 0.02))
    draw.line([tuple(p) for p in arms.tolist()], fill=wood, width=width * 2, joint="curve")
    draw.line([tuple(p) for p in bow.tolist()], fill=steel, width=width, joint="curve")
