"""Click parameter types that refuse NaN, infinity and empty paths, and options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tagmill.device import DEVICES
from tagmill.locations.schemes import is_stored
from tagmill.outcomes import ErrorCode
from tagmill.priority import Priority
from tagmill.stores.allowed import AllowedLocations

FC = TypeVar("FC", bound=Callable[..., Any] | click.Command)

DEVICE = click.option("--device", metavar=DEVICES, help="Where inference runs.  [default: auto]")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
MEASURE = click.option(
    "--measure",
    multiple=True,
    metavar="pictures|text",
    help="Also measure the pictures, for `tagmill check`: pictures, or text, which includes it and finds text on them.",
)
DATABASE = click.option("--db", "database_url", metavar="URL", help="Instead of TAGMILL_DATABASE_URL.")


PRIORITY = click.Choice([priority.word for priority in Priority])


def error_codes(help_text: str) -> Callable[[FC], FC]:
    """Return the option --code, which may be repeated: why images failed."""
    names = [code.value for code in ErrorCode]
    return click.option("--code", "codes", multiple=True, type=click.Choice(names), metavar="CODE", help=help_text)


class Finite(click.FloatRange):
    """A finite number within limits. click's ranges let NaN through, and open ones infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class NonEmptyPath(click.Path):
    """A path that is not empty. An empty one, as from an unset shell variable, would mean the working directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("is empty; name a path.", param, ctx)
        return super().convert(value, param, ctx)


class Root(click.Path):
    """What workers may read: an existing folder, which becomes absolute, or a prefix of a store."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, resolve_path=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not is_stored(str(value)):
            return super().convert(value, param, ctx)
        try:
            AllowedLocations([value])
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        return value


class Share(click.ParamType[float]):
    """A percentage from 0.01% to 100%, such as 10%, as a number from 0.0001 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number, percent, rest = str(value).strip().partition("%")
        try:
            given = float(number)
        except ValueError:
            given = 0.0
        if not percent or rest or not 0.01 <= given <= 100:
            self.fail(f"{value} is not a percentage from 0.01% to 100%, such as 10%.", param, ctx)
        return given / 100
