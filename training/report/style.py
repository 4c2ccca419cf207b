"""How every figure of a run looks, and how it becomes the same bytes each time."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from numpy.typing import NDArray

from tagmill.files import write_whole

#: colors that people tell apart whatever colors they see (Okabe and Ito 2008, Color Universal Design)
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
INK, FAINT, LINE, WRONG, NOTHING = "#1d2433", "#5b6472", "#d9dee5", "#b3261e", "#eef1f5"
#: letters of a label that a figure has room for
LETTERS = 22
DPI = 110

#: Kelly's colors of maximum contrast (1965), the first of them for people who see fewer colors, too; teal for gray
_CONTRAST = (
    "f3c300 875692 f38400 a1caf1 be0032 c2b280 00a6a6 008856 e68fac 0067a5 "
    "f99379 604e97 f6a600 b3446c dcd300 882d17 8db600 654522 e25822 2b3d26"
)
#: fonts for letters that DejaVu Sans, which comes with matplotlib, does not have: Chinese, Japanese, Korean, emoji
_MORE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic",
    "NanumGothic", "PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Noto Emoji", "Segoe UI Emoji", "Symbola",
)  # fmt: skip
_INSTALLED = {font.name for font in fontManager.ttflist}
FONTS = ["DejaVu Sans", *(name for name in _MORE_FONTS if name in _INSTALLED)]
_STYLE: dict[str, Any] = {
    "font.family": FONTS,
    "font.size": 9,
    "text.color": INK,
    # A label is text, whatever dollar signs it holds.
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
#: what every function that draws is wrapped in; a matplotlibrc of the user's changes nothing
in_style = style.context(["default", _STYLE])


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without date and version in it: the same run writes the same bytes."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A warning for each letter that no font has; the page says so once.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(path, content.getvalue())


def without_font(labels: Sequence[str]) -> list[str]:
    """Return the labels in which a figure shows boxes, because no font here has their letters."""
    if all(label.isascii() for label in labels):
        return []
    known = set().union(*(get_font(findfont(name)).get_charmap() for name in FONTS))
    return [label for label in labels if any(ord(letter) not in known for letter in "".join(label.split()))]


def short(text: str, letters: int = LETTERS) -> str:
    """Return one line of at most that many letters."""
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def listed(names: Sequence[str], letters: int = LETTERS) -> str:
    """Return as many of the names as there is room for, and how many more there are."""
    if not names:
        return "no label"
    shown = [short(names[0], letters)]
    for name in names[1:]:
        if len(", ".join([*shown, name])) > letters:
            break
        shown.append(name)
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" +{rest}" if rest else "")


def mask_colors() -> NDArray[Any]:
    """Return a color for each label of a mask, float [256, 3] of 0..1; they repeat after 20."""
    shades = np.array([to_rgb(f"#{color}") for color in _CONTRAST.split()])
    found: NDArray[Any] = shades[(np.arange(256) - 1) % len(shades)]
    return found
