"""Read from state.pt where a training was stopped, and compare what it was started with."""

from pathlib import Path
from typing import Any

from tagmill.errors import InputError
from tagmill.text import flatten
from training.checkpoint import STATE, read


def stage_of(run: Path, resume: bool) -> str:
    """Return the stage in which a run was stopped, or "" for one that starts from the beginning."""
    path = run / STATE
    if not resume or not path.exists():
        return ""
    try:
        return str(read(path)["stage"])
    except (LookupError, TypeError) as error:
        raise foreign_state(path) from error


def foreign_state(path: Path) -> InputError:
    """Return the error for a state.pt that this training cannot resume from."""
    return InputError(f"{path}: is not the state of this training; remove {path.parent}, or name another --out")


def difference(name: str, before: Any, now: Any) -> str:
    """Return how a setting, or each setting nested in it, differs: "NAME was A, is B; ..."."""
    if isinstance(before, list) and isinstance(now, list) and set(before) != set(now):
        before, now = [item for item in before if item not in now], [item for item in now if item not in before]
    old, new = (dict(flatten(value if isinstance(value, dict) else {name: value})) for value in (before, now))
    names = [name for name in old | new if old.get(name, "none") != new.get(name, "none")]
    return "; ".join(f"{name} was {old.get(name, 'none')}, is {new.get(name, 'none')}" for name in names)
