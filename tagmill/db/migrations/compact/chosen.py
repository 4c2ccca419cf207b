"""The rows of a chunk, as a condition on a column of their keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Key = int | str


@dataclass(frozen=True)
class Between:
    """The rows whose key is above `after` and at most `last`."""

    after: Key | None
    last: Key

    @property
    def parameters(self) -> dict[str, Any]:
        """What the condition's parameters are."""
        return {"last": self.last} if self.after is None else {"last": self.last, "after": self.after}

    def condition(self, column: str, dialect: str) -> str:
        """Return the condition."""
        return f"({column} <= :last)" if self.after is None else f"({column} > :after AND {column} <= :last)"


@dataclass(frozen=True)
class AnyOf:
    """The rows with one of these keys."""

    keys: Sequence[Key]

    @property
    def parameters(self) -> dict[str, Any]:
        """What the condition's parameters are."""
        return {"keys": list(self.keys)}

    def condition(self, column: str, dialect: str) -> str:
        """Return the condition."""
        if dialect == "sqlite":
            return f"{column} IN (SELECT value FROM json_each(:keys))"
        kind = "text" if isinstance(self.keys[0], str) else "bigint"
        return f"{column} = ANY (CAST(:keys AS {kind}[]))"


Chosen = Between | AnyOf
