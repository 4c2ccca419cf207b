"""The options of `tagmill submit` and `tagmill tag` that say how sources are read."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from producer.sources.manifests.sql_query import is_query
from producer.sources.manifests.text.encoding import is_text_encoding
from producer.sources.options import FORMATS, ReadOptions
from tagmill.cli.param_types import NonEmptyPath
from tagmill.settings import load_settings
from tagmill.text import legible, normalize
from tagmill.where import SYNTAX, Where


def _parse_encoding(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and not is_text_encoding(name):
        raise click.BadParameter(f"{name!r} is no encoding that Python knows, such as cp949, cp1252 or utf-16")
    return name


def _parse_delimiter(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    text = "\t" if text in {"\\t", "tab"} else text
    if text is not None and (len(text) != 1 or text in '"\r\n '):
        raise click.BadParameter(f"{text!r} is not one character that separates cells, such as ';' or tab")
    return text


def _parse_split(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not text:
        raise click.BadParameter("is empty; write the character between two locations, such as ','")
    return text


_OPTIONS = (
    click.option("--format", type=click.Choice(FORMATS), help="Of manifests, instead of the end of their names."),
    click.option("--encoding", callback=_parse_encoding, metavar="NAME", help="Of manifests, such as cp949."),
    click.option("--delimiter", callback=_parse_delimiter, metavar="CHAR", help="Of CSV: ; or tab, for example."),
    click.option("--key-column", metavar="NAME", help="Column of the keys.  [default: image_key, id or key]"),
    click.option(
        "--uri-column",
        "uri_columns",
        multiple=True,
        metavar="NAME",
        help="Column of the locations; may be repeated.  [default: uri, url, path, image, image_link or file_name]",
    ),
    click.option("--split", callback=_parse_split, metavar="CHAR", help="Between several locations in one cell."),
    click.option("--no-extra", is_flag=True, help="Do not keep the other columns."),
    click.option(
        "--source-url", metavar="URL", help="Database of sql: sources.  [default: the setting TAGMILL_SOURCE_URL]"
    ),
    click.option("--extract", type=NonEmptyPath(), metavar="FOLDER", help="Write images inside Parquet files here."),
    click.option("--where", "conditions", multiple=True, metavar="EXPR", help=f"Take only these entries: {SYNTAX}."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take the first N entries."),
    click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Take N entries at random."),
    click.option("--seed", type=int, default=0, show_default=True, help="With --sample: another one, another sample."),
)
_NAMES = ("format", "encoding", "delimiter", "split", "extract", "limit", "sample", "seed")


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as one `ReadOptions` in its argument `read`."""

    @wraps(command)
    def with_options(**arguments: Any) -> Any:
        return command(read=_take_options(arguments), **arguments)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


def _take_options(arguments: dict[str, Any]) -> ReadOptions:
    """Take what the options were given out of the arguments of a command."""
    key_column = arguments.pop("key_column")
    uri_columns = arguments.pop("uri_columns")
    where = Where.parse(arguments.pop("conditions"))
    source_url = arguments.pop("source_url")
    if any(map(is_query, arguments["sources"])):
        source_url = load_settings(source_url=source_url).source_url
    keep_extra = not arguments.pop("no_extra")
    return ReadOptions(
        **{name: arguments.pop(name) for name in _NAMES},
        key_column=normalize(key_column) if key_column else None,
        uri_columns=tuple(map(normalize, uri_columns)),
        keep_extra=keep_extra,
        source_url=source_url or "",
        where=where,
        tell=_Notes().tell,
    )


class _Notes:
    """Shows each note of a reader once: `tagmill tag` reads its sources twice."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def tell(self, note: str) -> None:
        if note not in self._shown:
            self._shown.add(note)
            # Not click.echo, which writes into the line of a progress bar.
            sys.stderr.write(f"{legible(note)}\n")
