"""Open a bucket of S3, Google Cloud Storage or Azure with obstore, and tell what its errors mean.

Credentials and endpoints come from the environment alone: `AWS_*`, `GOOGLE_*`, `AZURE_*`, or the machine's own role.
"""

import os
import re
from datetime import timedelta
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING

from tagmill.errors import ConfigurationError
from tagmill.locations.schemes import SCHEMES, Kind, StoredLocation

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    Bucket = AzureStore | GCSStore | S3Store

#: seconds for one request of a command, and how often it is repeated
TIMEOUT, RETRIES = 30.0, 5
#: variables that name an endpoint; an http:// one is for a server of one's own, such as MinIO
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_STATUS = re.compile(r"status code: ([0-9]{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_KIND = re.compile(r"kind: (Timeout|Connect)\b")
#: hosts that give credentials, and how requests for credentials begin: those for objects to read are GETs
_METADATA = re.compile(r"//(?:169\.254\.1[67]\d\.\d+|metadata\.google\.internal)[:/]")
_CREDENTIALS = re.compile(rf"performing (?:PUT|POST) |{_METADATA.pattern}")


class StoreFault(Enum):
    """What an error of a store means."""

    NOT_FOUND = auto()
    #: what was asked for is what the caller has already
    NOT_MODIFIED = auto()
    #: the object changed since its first part was read
    CHANGED = auto()
    DENIED = auto()
    TIMED_OUT = auto()
    #: the store refuses because it is asked too much
    BUSY = auto()
    #: may not happen again in another attempt
    TRANSIENT = auto()
    FAILED = auto()


def is_object_store(location: StoredLocation) -> bool:
    """Return whether a location is in a bucket or container, which `open_bucket` opens."""
    return SCHEMES.get(location.scheme) is Kind.OBJECT_STORE


@lru_cache(maxsize=256)
def open_bucket(scheme: str, root: str, timeout: float, retries: int = 0) -> "Bucket":
    """Return the bucket or container, with connections of its own; one for each combination of arguments.

    `timeout` is in seconds for one request. Raise ConfigurationError if obstore is not installed, or for variables that
    cannot be used.
    """
    try:
        from obstore import store
        from obstore.exceptions import BaseError
    except ImportError as error:
        raise ConfigurationError(f"{scheme}:// needs obstore; pip install 'tagmill[cloud]'") from error
    client: ClientConfig = {"timeout": timedelta(seconds=timeout), "connect_timeout": timedelta(seconds=timeout)}
    if any(os.environ.get(name, "").lower().startswith("http://") for name in _ENDPOINTS[scheme]):
        client["allow_http"] = True
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=timeout * (retries + 1))}
    try:
        if scheme == "s3":
            return store.S3Store(root, client_options=client, retry_config=retry)
        if scheme == "gs":
            return store.GCSStore(root, client_options=client, retry_config=retry)
        return store.AzureStore(root, client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"{scheme}://{root}/: {_needed(scheme, error)}") from None


def explain(error: Exception, *, writing: bool = False) -> tuple[StoreFault, str]:
    """Return what an error of obstore means, and in words. With `writing`, it came from writing objects.

    The text of the error may hold the id of an access key: only the status and the code of the answer are shown.
    """
    from obstore import exceptions

    text = str(error)
    status, code = (found[1] if (found := pattern.search(text)) else "" for pattern in (_STATUS, _CODE))
    said = " ".join(filter(None, (f"HTTP {status}" if status else "", code)))
    if isinstance(error, exceptions.NotModifiedError):
        return StoreFault.NOT_MODIFIED, "was not modified"
    if isinstance(error, exceptions.PreconditionError):
        return StoreFault.CHANGED, "changed while it was read"
    if isinstance(error, FileNotFoundError) or status == "404":
        return StoreFault.NOT_FOUND, "no such bucket" if "Bucket" in code or "Container" in code else "no such object"
    if (_METADATA if writing else _CREDENTIALS).search(text.partition("\n")[0]):
        return StoreFault.DENIED, "no usable credentials in the environment"
    denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if isinstance(error, denied) or status in {"401", "403"} or code == "ExpiredToken":
        return StoreFault.DENIED, f"access denied ({said}); check the credentials and the rights of the bucket"
    if status in {"429", "503"}:
        return StoreFault.BUSY, said
    if status.startswith("5") or status == "408":
        return StoreFault.TRANSIENT, said
    if status == "301" or "redirect without LOCATION" in text:
        return StoreFault.FAILED, "the bucket is in another region; set AWS_REGION"
    if status:
        return StoreFault.FAILED, said
    kind = found[1] if (found := _KIND.search(text)) else ""
    if kind == "Timeout":
        return StoreFault.TIMED_OUT, "no complete answer in time"
    return StoreFault.TRANSIENT, "no connection" if kind == "Connect" else "the connection failed"


def _needed(scheme: str, error: Exception) -> str:
    """Return what is missing to open a bucket; messages of obstore may hold values of variables."""
    if scheme == "az" and "account" in str(error).lower():
        return "set AZURE_STORAGE_ACCOUNT_NAME"
    names = {"s3": "AWS_*", "gs": "GOOGLE_*", "az": "AZURE_*"}[scheme]
    return f"cannot be opened; check the variables {names}"
