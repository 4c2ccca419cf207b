"""Settings that hold a password, read from files: TAGMILL_DATABASE_URL_FILE and so on."""

from collections.abc import Mapping
from pathlib import Path

from tagmill.errors import ConfigurationError

#: the settings that may hold a password
SECRETS = ("database_url", "broker_url", "source_url")
#: names of the variables that name a file instead, in lower case without the prefix
FILE_VARIABLES = tuple(f"{name}_file" for name in SECRETS)
#: bytes of the longest file that is read
_MOST = 16_384


def read_secrets(variables: Mapping[str, str | None], prefix: str) -> dict[str, str]:
    """Return the settings whose values are in files. `variables` have names in lower case that begin with `prefix`.

    Raise ConfigurationError if a file cannot be read, or if the setting is given, too; no error shows what is in it.
    """
    found: dict[str, str] = {}
    for secret in SECRETS:
        path = variables.get(f"{prefix}{secret}_file")
        if path is None:
            continue
        variable = f"{prefix}{secret}".upper()
        if variables.get(f"{prefix}{secret}") is not None:
            raise ConfigurationError(f"{variable} and {variable}_FILE are both set; keep one of them")
        try:
            found[secret] = _read(path)
        except ValueError as error:
            raise ConfigurationError(f"{variable}_FILE: {error}") from None
    return found


def _read(path: str) -> str:
    if not path:
        raise ValueError("is empty; name a file")
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST + 1)
        text = data.decode().strip()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8") from None
    if not text:
        raise ValueError(f"{path}: is empty; write the URL into it")
    if len(data) > _MOST or len(text.splitlines()) > 1:
        raise ValueError(f"{path}: holds more than one line; write the URL alone into it")
    return text
