"""Column types that are small in SQL and plain in Python: hashes as hex, and lists of numbers."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from tagmill.db import rle_code


class Sha256(TypeDecorator[str]):
    """A sha256: 64 hexadecimal digits in Python, 32 bytes in SQL."""

    impl = LargeBinary
    cache_ok = True

    @staticmethod
    def stored(value: str) -> bytes:
        """Return what SQL holds for a sha256 in hexadecimal digits. Raise ValueError for anything else."""
        stored = bytes.fromhex(value)
        if len(stored) != 32:
            raise ValueError(f"{value!r} is not a sha256 in hexadecimal digits")
        return stored

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else self.stored(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).hex()


class Hash128(TypeDecorator[str]):
    """The first half of a sha256: 32 hexadecimal digits in Python, 16 bytes in SQL.

    PostgreSQL's type for 16 bytes, uuid, takes a third less room in a table and its index than bytea does.
    """

    impl = LargeBinary
    cache_ok = True

    @staticmethod
    def stored(value: str, dialect: str) -> "uuid.UUID | bytes":
        """Return what SQL holds of a hash of 32 hexadecimal digits or more."""
        return uuid.UUID(value[:32]) if dialect == "postgresql" else bytes.fromhex(value[:32])

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(UUID() if dialect.name == "postgresql" else LargeBinary(16))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else self.stored(value, dialect.name)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return value.hex if isinstance(value, uuid.UUID) else bytes(value).hex()


class Integers(TypeDecorator[Sequence[int | None]]):
    """A list of integers: an array in PostgreSQL, JSON in SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, element: type[Integer] = Integer) -> None:
        super().__init__()
        self.element = element

    @staticmethod
    def stored(value: Sequence[int | None], dialect: str) -> Any:
        """Return what SQL holds."""
        return list(value) if dialect == "postgresql" else json.dumps(list(value), separators=(",", ":"))

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(self.element()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[int | None] | None, dialect: Dialect) -> Any:
        return None if value is None else self.stored(value, dialect.name)

    def process_result_value(self, value: Any, dialect: Dialect) -> list[int | None] | None:
        found: list[int | None] | None = json.loads(value) if isinstance(value, str) else value
        return found


class Rle(TypeDecorator[str]):
    """A mask's COCO run lengths: text in Python and SQLite, half as many bytes in PostgreSQL (see `rle_code`)."""

    impl = LargeBinary
    cache_ok = True

    @staticmethod
    def stored(value: str, dialect: str) -> "bytes | str":
        """Return what SQL holds."""
        return rle_code.pack(value) if dialect == "postgresql" else value

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(LargeBinary() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else self.stored(value, dialect.name)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return value if value is None or isinstance(value, str) else rle_code.unpack(bytes(value))


class hash_head(FunctionElement[str]):  # noqa: N801 - reads like an SQL function
    """The first half of a sha256 as `Hash128` (PostgreSQL), or all of it (SQLite): what images are found by."""

    inherit_cache = True

    def __init__(self, column: Column[str]) -> None:
        self.type = Hash128()
        super().__init__(column)


@compiles(hash_head, "postgresql")
def _hash_head_postgresql(element: hash_head, compiler: SQLCompiler, **kw: Any) -> str:
    (column,) = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(encode(substr({column}, 1, 16), 'hex')::uuid)"


@compiles(hash_head, "sqlite")
def _hash_head_sqlite(element: hash_head, compiler: SQLCompiler, **kw: Any) -> str:
    (column,) = (compiler.process(clause, **kw) for clause in element.clauses)
    return column


#: an id of a table that may have more than 2,147,483,647 rows
BigId = BigInteger().with_variant(Integer, "sqlite")
