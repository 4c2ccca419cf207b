"""Column types that are small in SQL and plain in Python: hashes as hex, and lists of numbers."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import BigInteger, Column, Dialect, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from tagmill.db import rle_code
from tagmill.db.vectors import vector_code

#: turns a value of Python into what the driver of a database takes
Converter = Callable[[Any], Any]


class SmallType(TypeDecorator[Any]):
    """A type that the driver gets in another form than Python has it, which depends on the database."""

    def to_driver(self, dialect: str) -> Converter:
        """Return the function that makes the driver's value."""
        raise NotImplementedError

    def from_driver(self, value: Any) -> Any:
        """Return Python's value for the driver's."""
        return value

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self.to_driver(dialect.name)(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else self.from_driver(value)


class Sha256(SmallType):
    """A sha256: 64 hexadecimal digits in Python, 32 bytes in SQL."""

    impl = LargeBinary
    cache_ok = True

    def to_driver(self, dialect: str) -> Converter:
        return bytes.fromhex

    def from_driver(self, value: Any) -> str:
        return bytes(value).hex()


class Hash128(SmallType):
    """The first half of a sha256: 32 hexadecimal digits in Python, 16 bytes in SQL.

    PostgreSQL's type for 16 bytes, uuid, takes a third less room in a table and its index than bytea does.
    """

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(UUID() if dialect.name == "postgresql" else LargeBinary(16))

    def to_driver(self, dialect: str) -> Converter:
        return uuid.UUID if dialect == "postgresql" else bytes.fromhex

    def from_driver(self, value: Any) -> str:
        return value.hex if isinstance(value, uuid.UUID) else bytes(value).hex()


class Integers(SmallType):
    """A list of integers: an array in PostgreSQL, JSON in SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, element: type[Integer] = Integer) -> None:
        super().__init__()
        self.element = element

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(self.element()) if dialect.name == "postgresql" else Text())

    def to_driver(self, dialect: str) -> Converter:
        return list if dialect == "postgresql" else json.dumps

    def from_driver(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


class Rle(SmallType):
    """A mask's COCO run lengths: text in Python and SQLite, half as many bytes in PostgreSQL (see `rle_code`)."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(LargeBinary() if dialect.name == "postgresql" else Text())

    def to_driver(self, dialect: str) -> Converter:
        return rle_code.pack if dialect == "postgresql" else str

    def from_driver(self, value: Any) -> str:
        return value if isinstance(value, str) else rle_code.unpack(bytes(value))


class Vector(SmallType):
    """An embedding: float32 [D] in Python, bytes in SQL (see `vector_code`), pgvector's `halfvec` where it is there.

    Read it with `tagmill.db.vectors.read`: the driver has no type for a `halfvec`.
    """

    impl = LargeBinary
    cache_ok = True

    def to_driver(self, dialect: str) -> Converter:
        return vector_code.pack_halves if dialect == "postgresql" else vector_code.pack_floats

    def from_driver(self, value: Any) -> Any:
        return vector_code.unpack_floats([bytes(value)])[0]


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
