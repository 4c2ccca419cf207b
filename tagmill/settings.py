"""Settings from `TAGMILL_*` environment variables and a `.env` file, each with its unit."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated

import click
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tagmill.broker_url import check_broker_url
from tagmill.database_url import sqlalchemy_url
from tagmill.device import Device
from tagmill.errors import ConfigurationError
from tagmill.locations.private_hosts import PrivateHosts
from tagmill.secret_files import FILE_VARIABLES, read_secrets
from tagmill.stores.address import StoreAddress, parse_address
from tagmill.stores.allowed import parse_prefixes

#: upper limit, in seconds, of every setting that is a time
DAY = 86_400.0

PREFIX = "tagmill_"
#: variables that users set besides settings: level and format of the log, who a command acts for (`tagmill.db.audit`),
#: the folder that docker-compose.yml mounts as /catalog and the version of its images, and files with passwords
_OTHERS = ("log_level", "log_format", "user", "catalog", "version", *FILE_VARIABLES)
#: variables that a supervisor sets for its process, see `worker.supervision.process`
_OF_SUPERVISOR = ("process", "probes")
#: prefix of the variables that the tests read
_OF_TESTS = "test_"


class Settings(BaseSettings):
    """Everything that differs between installations. Build it once per process with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="TAGMILL_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    #: SQLAlchemy URL: sqlite:///file.db or postgresql://user:password@host/database. Several hosts, as in
    #: user:password@host1:5432,host2:5432, are a PostgreSQL that fails over
    database_url: str = Field("sqlite:///tagmill.db", repr=False)
    #: Celery broker URL: redis://:password@host:6379/0, or sentinel://:password@host1:26379;host2:26379/0?master_name=NAME
    #: for a Redis behind Sentinel. memory:// works inside one process only
    broker_url: str = Field("memory://localhost/", repr=False)
    #: SQLAlchemy URL of the database that sources such as sql:SELECT ... query
    source_url: str | None = Field(None, repr=False)
    #: folder or location of the registered bundles, one `<sha256>.onnx` each, such as s3://shop-models/; shared by all
    #: workers
    model_store: Annotated[
        StoreAddress, NoDecode, PlainValidator(parse_address), PlainSerializer(str, when_used="json")
    ] = Path("models")
    #: bytes of the bundles in the cache folder, if the model store is no folder; those used least recently are removed
    bundle_cache_bytes: int = Field(10 * 2**30, ge=0)
    #: Redis list that workers take batches from
    queue: str = "tagmill"

    #: device that inference runs on: auto, cpu, cuda:N, tensorrt:N or openvino
    device: str = "auto"
    #: batches that one worker process has in work at the same time
    concurrency: int = Field(3, ge=1, le=64)
    #: threads that read and decode files; 0 means one per core
    decode_threads: int = Field(0, ge=0, le=256)
    #: URLs of one host that a worker process fetches at the same time
    fetch_threads: int = Field(16, ge=1, le=256)
    #: images of one bucket or file system that a worker process fetches at the same time
    store_requests: int = Field(64, ge=1, le=1024)
    #: threads of one inference call on the CPU; 0: what `tagmill bench` chose here, otherwise cores / concurrency
    inference_threads: int = Field(0, ge=0, le=256)
    #: images per inference call; 0 means what `tagmill bench` chose here, otherwise 16, or 64 on a GPU
    inference_batch: int = Field(0, ge=0, le=1024)
    #: folder that belongs to this machine: the choices of `tagmill bench`, TensorRT's engines, and the bundles of a
    #: model store that is no folder
    cache_folder: Path = Path("cache")
    #: bytes of GPU memory that ONNX Runtime may use for one bundle; 0 means all of it
    gpu_memory: int = Field(0, ge=0)
    #: if true, CUDA records the kernels of a call and launches them as one
    cuda_graphs: bool = False
    #: if true, the GPU that infers also decodes plain JPEGs; for machines whose CPUs cannot feed it
    decode_on_gpu: bool = False

    #: seconds that a claimed batch belongs to its worker; a heartbeat renews it five times in that time
    lease_seconds: float = Field(10.0, gt=0, le=DAY)
    #: how often a batch may be claimed before it is given up as dead; the first ten deaths of its worker do not count
    max_attempts: int = Field(4, ge=1)
    #: seconds between two searches for expired leases and lost messages
    reap_seconds: float = Field(1.0, gt=0, le=DAY)
    #: seconds that a batch may wait on an empty queue before its message counts as lost
    queued_grace_seconds: float = Field(10.0, gt=0, le=DAY)

    #: seconds that a run waits for a folder or a bundle that no worker has; after that, its images fail
    hold_seconds: float = Field(600.0, ge=0, le=DAY)

    #: folders that workers may read, separated by `:`; folders named to `tagmill submit` are added for that run
    allowed_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    #: prefixes of object stores and file systems that workers may read, such as `s3://shop-images/,gs://other/2026/`;
    #: those named to `tagmill submit` are added for that run
    allowed_locations: Annotated[tuple[str, ...], NoDecode] = ()
    #: hosts that are not public and may be fetched from: true, false, or a comma-separated list of networks such as
    #: 10.0.0.0/8 and names such as images.internal or *.shop.internal
    allow_private_hosts: Annotated[
        PrivateHosts, NoDecode, BeforeValidator(PrivateHosts.parse), PlainSerializer(str, when_used="json")
    ] = PrivateHosts()
    #: requests to one host that all workers of the queue have under way together; 0 means no limit
    per_host: int = Field(0, ge=0, le=10_000)
    #: requests per second to one host of all workers of the queue together; 0 means no limit
    per_host_rate: float = Field(0.0, ge=0, le=100_000)
    #: User-Agent of requests for images, with a contact; `{version}` stands for the version of Tagmill
    user_agent: str = "tagmill/{version}"
    #: bytes of one image file
    max_image_bytes: int = Field(64 * 2**20, ge=1)
    #: pixels of one image, read from its header
    max_image_pixels: int = Field(100_000_000, ge=1)
    #: frames of one animation, or pages of one TIFF; the first one is tagged
    max_image_frames: int = Field(1000, ge=1)
    #: seconds to fetch one image, redirects and retries included; how long it waits for a busy host: docs/hosts.md
    fetch_timeout: float = Field(20.0, gt=0, le=DAY)
    #: seconds after which reading or decoding one image, or one inference call, counts as stuck and is abandoned
    stall_seconds: float = Field(120.0, gt=0, le=DAY)
    #: bytes that a worker process may hold before it is restarted between two batches; 0 means 3/4 of the memory of the
    #: machine or its container
    max_worker_memory: int = Field(0, ge=0)

    #: if true, OpenTelemetry's traces of submits and batches go to where OTEL_EXPORTER_OTLP_ENDPOINT says
    traces: bool = False

    #: TCP port on which a worker, or the exporter, serves /metrics, /live and /ready; 0: a worker serves none, and the
    #: exporter takes 9809
    metrics_port: int = Field(0, ge=0, le=65535)
    #: address of this machine on which that port is open; 0.0.0.0: all
    metrics_host: str = "127.0.0.1"

    #: price of one core for an hour, in any currency: `tagmill run status` then shows what a run cost
    price_cpu_hour: float | None = Field(None, ge=0, allow_inf_nan=False)
    #: price of one GPU for an hour
    price_gpu_hour: float | None = Field(None, ge=0, allow_inf_nan=False)

    @field_validator("allowed_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(":") if part)
        return value

    @field_validator("allowed_locations", mode="before")
    @classmethod
    def _are_prefixes(cls, value: object) -> object:
        return parse_prefixes(value) if isinstance(value, str) else value

    @field_validator("user_agent")
    @classmethod
    def _is_header_value(cls, value: str) -> str:
        if 0 < len(value) <= 256 and value == value.strip() and re.fullmatch(r"[ -~]*", value):
            return value
        raise ValueError(
            "must be one line of 1 to 256 printable ASCII characters, such as shop-tagger/1.0 (ops@shop.example)"
        )

    @field_validator("database_url", "broker_url", "source_url")
    @classmethod
    def _is_text(cls, value: str | None) -> str | None:
        try:
            (value or "").encode()
        except UnicodeEncodeError as error:
            raise ValueError("is not UTF-8; percent-encode it") from error
        return value

    @field_validator("queue")
    @classmethod
    def _queue_is_a_name(cls, value: str) -> str:
        # Celery splits names at a comma, Redis keys beside the queue begin with its name and a colon, and the column in
        # SQL holds 100 characters.
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            return value
        raise ValueError(
            "must be 1 to 100 letters of a-z and A-Z, digits, `.`, `_` or `-`, the first a letter or digit"
        )

    @field_validator("database_url", "source_url")
    @classmethod
    def _database_is_known(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = sqlalchemy_url(value)
        try:
            url = make_url(value)
            backend = url.get_backend_name()
        except (ArgumentError, ValueError) as error:
            raise ValueError("is not a database URL, e.g. sqlite:///tagmill.db") from error
        if backend not in {"sqlite", "postgresql"}:
            raise ValueError(f"names {backend}; sqlite and postgresql are supported")
        if backend == "sqlite" and url.database in {None, "", ":memory:"}:
            raise ValueError("is an SQLite database in memory, which threads do not share; name a file")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_is_known(cls, value: str) -> str:
        return check_broker_url(value)

    @field_validator("decode_on_gpu")
    @classmethod
    def _nothing_breaks_a_recording(cls, value: bool, others: ValidationInfo) -> bool:
        if value and others.data.get("cuda_graphs"):
            raise ValueError("breaks the recordings of TAGMILL_CUDA_GRAPHS; set one of the two to false")
        return value

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, value: str) -> str:
        Device.parse(value)
        return value


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and `.env`. Raise ConfigurationError if one of them is wrong.

    `overrides` are the options of the command line; None means not given. A variable that is no setting is named on
    standard error and has no effect: it may belong to a newer Tagmill.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    # Errors are not chained: they may hold a password.
    try:
        variables = {**DotEnvSettingsSource(Settings).env_vars, **EnvSettingsSource(Settings).env_vars}
        given = read_secrets(variables, PREFIX) | given
        settings = Settings(**given)  # type: ignore[arg-type]  # pydantic validates what a shell typed
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8; save it as UTF-8"
        raise ConfigurationError(f".env: {reason}") from None
    except ValidationError as error:
        first = error.errors()[0]
        name = f"TAGMILL_{str(first['loc'][0]).upper()}"
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{name}: {reason}") from None
    warn_of_unknown(variables, Settings.model_fields)
    return settings


def warn_of_unknown(variables: Iterable[str], settings: Collection[str]) -> None:
    """Warn once per process, in one line, of variables that are no settings. All names are in lower case."""
    if named := _unknown(variables, settings):
        _say_once(f"warning: ignored, as there is no such setting: {named}")


def unknown_variables() -> str:
    """Return the variables that are no settings, each with what may have been meant; empty if there are none."""
    given = {*EnvSettingsSource(Settings).env_vars, *DotEnvSettingsSource(Settings).env_vars}
    return _unknown(given, Settings.model_fields)


def _unknown(variables: Iterable[str], settings: Collection[str]) -> str:
    known = (*settings, *_OTHERS)
    given = [name.removeprefix(PREFIX) for name in sorted(variables) if name.startswith(PREFIX)]
    unknown = [name for name in given if name not in (*known, *_OF_SUPERVISOR) and not name.startswith(_OF_TESTS)]
    return ", ".join(_with_guess(name, known) for name in unknown)


def _with_guess(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return _variable(name) + (f" (did you mean {_variable(near[0])}?)" if near else "")


def _variable(name: str) -> str:
    return (PREFIX + name).upper()


@cache
def _say_once(line: str) -> None:
    click.echo(line, err=True)
