"""Text and watermarks drawn on photos, as sellers do: words, prices and addresses in ten fonts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: fonts that matplotlib ships: sans, bold, slanted, serif, monospaced, and those of TeX
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "STIXGeneral", "STIXGeneralItalic", "cmss10", "cmtt10"),
)
WORDS = (
    *("SALE", "-50 %", "Free shipping", "NEW", "www.shop-24.com", "Best price", "29.99", "Original", "2 for 1"),
    *("Limited edition", "© Photo Studio", "SAMPLE", "Only today", "Size M", "100% cotton", "Made in Italy"),
)


def font_files() -> list[Path]:
    """Return the files of `FONTS`."""
    import matplotlib as mpl

    return [Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf" for name in FONTS]


def draw_text(photo: Image.Image, font: Path, rng: np.random.Generator, words: Sequence[str] = WORDS) -> Image.Image:
    """Return a copy of a photo with words on it.

    Capital letters are 3 to 9 % of the shorter side high, of any color that differs from what is behind, opaque in two
    of three pictures and else 40 to 80 % opaque, as watermarks are. One in four is tilted by up to 30 degrees.
    """
    side = min(photo.size)
    size = max(10, round(side * rng.uniform(0.03, 0.09) / 0.72))
    face = ImageFont.truetype(str(font), size)
    word = words[int(rng.integers(len(words)))]
    left, top, right, bottom = face.getbbox(word)
    layer = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(layer).text((4 - left, 4 - top), word, fill=255, font=face)
    if rng.random() < 0.25:
        layer = layer.rotate(float(rng.uniform(-30, 30)), Image.Resampling.BICUBIC, expand=True)
    share = min(1.0, photo.width * 0.96 / layer.width, photo.height * 0.96 / layer.height)
    layer = layer.resize(
        (max(1, int(layer.width * share)), max(1, int(layer.height * share))), Image.Resampling.LANCZOS
    )
    x = int(rng.integers(photo.width - layer.width + 1))
    y = int(rng.integers(photo.height - layer.height + 1))
    behind = np.asarray(photo.crop((x, y, x + layer.width, y + layer.height))).reshape(-1, 3).mean(axis=0)
    colors = rng.integers(0, 256, (64, 3))
    color = colors[np.argmax(np.abs((colors - behind) @ np.array([0.3, 0.59, 0.11])) > 80)]
    opaque = 1.0 if rng.random() < 2 / 3 else float(rng.uniform(0.4, 0.8))
    drawn = photo.copy()
    drawn.paste(tuple(int(value) for value in color), (x, y), layer.point(lambda value: value * opaque))
    return drawn
