"""Further columns of Arrow batches as JSON objects: column by column, not row by row."""

import json
from collections.abc import Sequence
from json.encoder import encode_basestring as quote
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from producer.sources.manifests.manifest import ManifestError
from tagmill.extra import clean, clean_text

#: what JSON writes with a backslash
_ESCAPED = r'[\x00-\x1f"\\]'
_OFFSET = r"([+-]\d\d)(\d\d)$"


def is_kept(kind: Any) -> bool:
    """Return whether values of this Arrow type are kept: bytes and columns of nulls are not."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    return not (_is_bytes(kind) or types.is_null(kind) or is_embedded(kind))


def is_embedded(kind: Any) -> bool:
    """Return whether values of this Arrow type hold the bytes of images: struct<bytes, path>, or just bytes."""
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_bytes(kind.field(at).type)
    return _is_bytes(kind)


def make_objects(columns: Sequence[tuple[str, Any]], rows: int) -> list[str | None]:
    """Return the JSON text of each row's columns, without nulls; None for a row of nulls."""
    parts = [
        pc.binary_join_element_wise(f"{quote(clean_text(name))}:", _as_json(values), "") for name, values in columns
    ]
    if not parts:
        return [None] * rows
    # The empty text in front leaves a comma before each value, and something in rows of nulls: Arrow drops rows that
    # have nothing to join.
    joined = pc.binary_join_element_wise(pa.scalar(""), *parts, ",", null_handling="skip")
    return [f"{{{text[1:]}}}" if text else None for text in texts_of(joined, "replace")]


def texts_of(values: Any, errors: str) -> list[Any]:
    """Return the texts of an array. Arrow does not check that they are UTF-8; `errors` says what others become."""
    try:
        found: list[Any] = values.to_pylist()
    except UnicodeDecodeError:
        raw = values.cast(pa.binary()).to_pylist()
        return [None if text is None else text.decode(errors=errors) for text in raw]
    return found


def _as_json(values: Any) -> Any:
    """Return the values as JSON texts; what JSON lacks becomes null."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        values, kind = values.storage, kind.storage_type
    if types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if types.is_floating(kind):
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, kind))
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return values.cast(pa.string())
    if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
        return _quoted(_iso(values.cast(pa.string())))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _quoted(values.cast(pa.string()))
    if types.is_duration(kind):
        values = values.cast(pa.duration("us"), safe=False)
    try:
        return pa.array([_encode(value) for value in values.to_pylist()], pa.string())
    except (ValueError, OverflowError) as error:  # nanoseconds in a list, and dates after the year 9999
        raise ManifestError(f"a column holds {kind}, with values that cannot be kept: add --no-extra") from error


def _iso(texts: Any) -> Any:
    return pc.replace_substring_regex(pc.replace_substring(texts, " ", "T"), _OFFSET, r"\1:\2")


def _quoted(texts: Any) -> Any:
    if pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
        found = texts_of(texts, "replace")
        return pa.array([None if text is None else quote(clean_text(text)) for text in found], pa.string())
    return pc.binary_join_element_wise('"', texts, '"', "")


def _encode(value: Any) -> str | None:
    value = clean(value)
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _is_bytes(kind: Any) -> bool:
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )
