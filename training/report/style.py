"""The style of all figures, and how they are written: the same run always writes the same bytes."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from tagmill.files import write_bytes_atomic

#: colors that people with any color vision can tell apart (Okabe and Ito 2008, Color Universal Design)
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
INK, FAINT, LINE, WRONG, NOTHING = "#1d2433", "#5b6472", "#d9dee5", "#b3261e", "#eef1f5"
#: characters of a label that fit into a figure
CHARACTERS = 22
DPI = 110

#: fonts with characters that DejaVu Sans, which comes with matplotlib, lacks: Chinese, Japanese, Korean, emoji
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
    # A label with dollar signs is not a formula.
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
#: decorator of every function that draws; it overrides the user's matplotlibrc
in_style = style.context(["default", _STYLE])


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height are in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without a date and a version, so that the same figure has the same bytes."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    with warnings.catch_warnings():
        # matplotlib warns of each character that no font has; the page mentions the labels once.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes_atomic(path, content.getvalue())


def labels_without_font(labels: Sequence[str]) -> list[str]:
    """Return the labels with characters that no installed font has; figures show them as boxes."""
    if all(label.isascii() for label in labels):
        return []
    known = set().union(*(get_font(findfont(name)).get_charmap() for name in FONTS))
    return [label for label in labels if any(ord(character) not in known for character in "".join(label.split()))]


def shorten(text: str, characters: int = CHARACTERS) -> str:
    """Return text on one line, cut to that many characters."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def join_names(names: Sequence[str], characters: int = CHARACTERS) -> str:
    """Return as many of the names as fit into that many characters, and the number of the others."""
    if not names:
        return "no label"
    shown = [shorten(names[0], characters)]
    for name in names[1:]:
        if len(", ".join([*shown, name])) > characters:
            break
        shown.append(name)
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" +{rest}" if rest else "")
