"""Says which `TAGMILL_*` variables nothing reads: most often a setting that was misspelt."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import cache

import click

PREFIX = "tagmill_"
#: what people set besides settings: the level of the log, and the folder that docker-compose.yml shows to workers
_OTHERS = ("log_level", "catalog")
#: what a supervisor sets for its process, see `worker.process`
_PROCESS = "process"
#: how the names of what the tests read begin
_OF_TESTS = "test_"


def warn_of_unknown(variables: Iterable[str], settings: Collection[str]) -> None:
    """Name in one line, once a process, what is neither a setting nor read elsewhere. All names are in lower case."""
    known = (*settings, *_OTHERS)
    given = [name.removeprefix(PREFIX) for name in sorted(variables) if name.startswith(PREFIX)]
    unknown = [name for name in given if name not in (*known, _PROCESS) and not name.startswith(_OF_TESTS)]
    if unknown:
        named = ", ".join(_with_guess(name, known) for name in unknown)
        _say_once(f"warning: ignored, as there is no such setting: {named}")


def _with_guess(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return _variable(name) + (f" (did you mean {_variable(near[0])}?)" if near else "")


def _variable(name: str) -> str:
    return (PREFIX + name).upper()


@cache
def _say_once(line: str) -> None:
    click.echo(line, err=True)
