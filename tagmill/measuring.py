"""What workers measure on the pictures of a run beside running its models, as its submission says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tagmill.errors import InputError

#: what `--measure` takes
PICTURES, TEXT = "pictures", "text"
#: increased whenever the same bytes are measured differently: pictures with a lower version are measured again
VERSION = 1
_NAMES = (PICTURES, TEXT)


@dataclass(frozen=True)
class Measuring:
    """The measures of a run: those of the whole picture, and on request how much text is on it."""

    text: bool = False

    @classmethod
    def parse(cls, given: Iterable[str]) -> "Measuring | None":
        """Return what was asked for, as names that may be separated by commas; None for nothing.

        `text` includes `pictures`. Raise InputError for another name.
        """
        names = [name.strip() for one in given for name in one.split(",") if name.strip()]
        for name in names:
            if name not in _NAMES:
                raise InputError(f"--measure {name!r} is not known; choose from: {', '.join(_NAMES)}")
        return cls(TEXT in names) if names else None

    def to_json(self) -> dict[str, Any]:
        """Return what `run.parameters` holds of it."""
        return {"measure": [PICTURES, TEXT] if self.text else [PICTURES]}

    @classmethod
    def from_json(cls, parameters: Mapping[str, Any]) -> "Measuring | None":
        """Read `run.parameters`."""
        found = parameters.get("measure")
        return cls(TEXT in found) if found else None
