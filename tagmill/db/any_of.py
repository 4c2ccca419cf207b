"""The condition that a column is any of several values, which are passed as one parameter.

An IN has one parameter per value, so that the database parses the statement again for each number of values.
"""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Text, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from tagmill.db.types import Hash128, Sha256

#: types whose values are hexadecimal digits in Python and bytes in SQL
_HASHES = (Sha256, Hash128)


class _Values(TypeDecorator[Iterable[Any]]):
    """Values of a column as an array (PostgreSQL) or as JSON (SQLite)."""

    impl = Text
    cache_ok = True

    def __init__(self, element: TypeEngine[Any]) -> None:
        super().__init__()
        self.element = element

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(self.element) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Iterable[Any] | None, dialect: Dialect) -> Any:
        values = list(value or ())
        if isinstance(self.element, Hash128) and dialect.name == "postgresql":
            return [found[:32] for found in values]  # of a whole sha256, too; see `hash_head`
        return values if dialect.name == "postgresql" else json.dumps(values)


class any_of(FunctionElement[bool]):  # noqa: N801 - reads like the SQL condition
    """The condition that `column` is one of the values of the parameter `name`.

    It has no type: SQLAlchemy writes `= 1` behind a Boolean for SQLite, which then uses no index.
    """

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        # A varchar is compared as text: a cast to varchar(n) would silently cut a longer value.
        element = Text() if column.type.python_type is str else column.type
        super().__init__(column, bindparam(name, type_=_Values(element)))


@compiles(any_of, "postgresql")
def _any_of_postgresql(element: any_of, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(any_of, "sqlite")
def _any_of_sqlite(element: any_of, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    of_hash = isinstance(next(iter(element.clauses)).type, _HASHES)
    value = "tagmill_unhex(value)" if of_hash else "value"  # the function is added in `tagmill.db.connection`
    return f"{column} IN (SELECT {value} FROM json_each({values}))"
