"""What people see of the further columns of an entry: URLs without logins, signatures and tokens."""

from typing import Any

from tagmill.extra import make_extra, parse_extra
from tagmill.locations.redact import shown_uri


def shown_extra(extra: str | None) -> str | None:
    """Return the JSON text of further columns with `***` for the secrets of URLs in them; see `shown_uri`."""
    if extra is None or "://" not in extra:
        return extra
    columns = parse_extra(extra)
    shown = {name: _shown(value) for name, value in columns.items()}
    return extra if shown == columns else make_extra(shown)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shown_uri(value) if "://" in value else value
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if isinstance(value, dict):
        return {name: _shown(one) for name, one in value.items()}
    return value
