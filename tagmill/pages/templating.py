"""Fill in the templates of reports and model cards, and format the numbers in them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tagmill.text import legible


def render(template: Path, values: Mapping[str, Any]) -> str:
    """Return a template, filled in. In HTML every value is escaped. It may include `base.css` of this folder."""
    return _environment(template.parent).get_template(template.name).render(**values)


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters()
    return environment


def filters() -> dict[str, Callable[..., str]]:
    """Return the filters that the templates format values with."""
    return {
        "count": lambda value: f"{value:,}",
        "share": lambda value: "–" if value is None else f"{value:.1%}",
        "figure": lambda value: "–" if value is None else f"{value:.3f}",
        "duration": duration,
        "images": count_images,
        "md": escape_markdown,
    }


def printable(value: Any) -> Any:
    """Return a value as a template writes it: text in which characters that UTF-8 cannot encode are escaped."""
    is_markup = hasattr(value, "__html__")  # the output of a macro, whose values were already escaped
    return legible(value) if isinstance(value, str) and not is_markup else value


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours, as text."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count_images(count: int) -> str:
    """Return a number of images as text."""
    return f"{count:,} image" if count == 1 else f"{count:,} images"


def escape_markdown(text: object) -> str:
    """Return text on one line, with the characters escaped that Markdown or HTML would interpret."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)
