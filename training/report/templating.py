"""The templates of a run's page and card, and how numbers are written in them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tagmill.text import legible
from training.report.caveats import pictures


def render(name: str, values: Mapping[str, Any]) -> str:
    """Return a filled-in template; in HTML every value is escaped."""
    return _environment().get_template(name).render(**values)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        finalize=written,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters()
    return environment


def filters() -> dict[str, Callable[..., str]]:
    """Return how a template writes a value."""
    return {
        "count": lambda value: f"{value:,}",
        "share": lambda value: "–" if value is None else f"{value:.1%}",
        "figure": lambda value: "–" if value is None else f"{value:.3f}",
        "duration": duration,
        "pictures": pictures,
        "md": markdown,
    }


def written(value: Any) -> Any:
    """Return what a template writes of a value: no name of a file keeps a page from being written."""
    is_markup = hasattr(value, "__html__")  # of a macro: many lines, made of values that came through here
    return legible(value) if isinstance(value, str) and not is_markup else value


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def markdown(text: object) -> str:
    """Return text as it is, whatever of it means something in Markdown or HTML."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)
