"""Buckets are opened with what the environment says, and an installation or a variable that is wrong is one line."""

import sys

import pytest

from tagmill.errors import ConfigurationError
from tagmill.stores.object_store import StoreFault, explain, open_bucket

#: how messages of obstore begin
GET = "Generic S3 error: Error performing GET http://127.0.0.1:9000/shop/1.jpg in 2ms - "


@pytest.fixture(autouse=True)
def nothing_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    open_bucket.cache_clear()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "shop")


@pytest.mark.parametrize(("scheme", "kind"), [("s3", "S3Store"), ("gs", "GCSStore"), ("az", "AzureStore")])
def test_each_scheme_has_its_store(scheme: str, kind: str) -> None:
    bucket = open_bucket(scheme, "images", 2.5)
    assert type(bucket).__name__ == kind
    assert bucket.client_options == {"timeout": "2s 500ms", "connect_timeout": "2s 500ms"}
    assert bucket.retry_config is not None
    assert bucket.retry_config["max_retries"] == 0
    assert open_bucket(scheme, "images", 2.5) is bucket


@pytest.mark.parametrize(
    ("scheme", "variable"),
    [("s3", "AWS_ENDPOINT_URL"), ("s3", "AWS_ENDPOINT_URL_S3"), ("az", "AZURE_STORAGE_ENDPOINT")],
)
def test_an_endpoint_of_ones_own_may_have_no_tls(scheme: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9000")
    options = open_bucket(scheme, "images", 2.0).client_options
    assert options is not None
    assert options["allow_http"] == "true"


@pytest.mark.parametrize(
    ("scheme", "variables", "message"),
    [
        ("az", {"AZURE_STORAGE_ACCOUNT_NAME": ""}, "set AZURE_STORAGE_ACCOUNT_NAME"),
        ("az", {"AZURE_STORAGE_ACCOUNT_KEY": "s3cret!"}, "cannot be opened; check the variables AZURE_*"),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": "/none"}, "cannot be opened; check the variables GOOGLE_*"),
        ("s3", {"AWS_SECRET_ACCESS_KEY": "s3cret!"}, "cannot be opened; check the variables AWS_*"),
    ],
)
def test_variables_that_are_wrong_are_one_line(
    scheme: str, variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError) as refused:
        open_bucket(scheme, "images", 2.0)
    assert str(refused.value) == f"{scheme}://images/: {message}"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"^s3:// needs obstore; pip install 'tagmill\[cloud\]'$"):
        open_bucket("s3", "images", 2.0)


NO_CREDENTIALS = (StoreFault.DENIED, "no usable credentials in the environment")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (f"{GET}Server returned non-2xx status code: 503 Slow Down: <Code>SlowDown", (StoreFault.BUSY, "HTTP 503")),
        (f"{GET}Server returned non-2xx status code: 500 Oops: AKIATEST", (StoreFault.TRANSIENT, "HTTP 500")),
        (f"{GET}HTTP error\n\nDebug source:\n kind: Timeout,", (StoreFault.TIMED_OUT, "no complete answer in time")),
        (f"{GET}HTTP error\n\nDebug source:\n kind: Decode,", (StoreFault.TRANSIENT, "the connection failed")),
        ("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1ms", NO_CREDENTIALS),
        ("Generic GCS error: Error performing GET http://metadata.google.internal/x in 1ms", NO_CREDENTIALS),
        ("Generic GCS error: Error performing POST https://oauth2.googleapis.com/token", NO_CREDENTIALS),
        # of an object whose name looks like one of these
        (f"{GET.replace('1.jpg', 'latest/api/token')}HTTP error", (StoreFault.TRANSIENT, "the connection failed")),
    ],
)
def test_what_an_error_means_is_said_without_its_text(text: str, meaning: tuple[StoreFault, str]) -> None:
    from obstore.exceptions import GenericError

    assert explain(GenericError(text)) == meaning
