"""What is said where pyarrow is not installed: it is an extra, and large."""

from collections.abc import Iterator
from contextlib import contextmanager

from tagmill.errors import ConfigurationError


@contextmanager
def needs_pyarrow(what: str) -> Iterator[None]:
    """Raise ConfigurationError with the command that installs pyarrow if an import in the block does not find it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ConfigurationError(f"{what} needs pyarrow; run: pip install 'tagmill[parquet]'") from error
