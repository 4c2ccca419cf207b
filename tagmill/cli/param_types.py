"""Values of options that click itself lets through: numbers without end, and paths of no name."""

import math
from pathlib import Path
from typing import Any

import click


class Finite(click.FloatRange):
    """A number within limits. No limit stops nan, and an open range takes inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class NamedPath(click.Path):
    """A path. An empty one, such as a variable that is not set, would be the working directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("is empty; name a path.", param, ctx)
        return super().convert(value, param, ctx)
