"""Open MLflow's registry, and tell what its errors mean. MLFLOW_TRACKING_URI, and MLflow's own variables, say where."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tagmill.errors import ConfigurationError, InputError, ServiceDown, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

_URIS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
#: variables of MLflow, unless they are set: it would send usage data to its makers, ask a server for minutes, and draw
#: bars for one file
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
#: error codes of MLflow that another name or version may mend
_WRONG_INPUT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST"}
_REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}


def open_client() -> "MlflowClient":
    """Return MLflow's client. Raise ConfigurationError if it is not installed, or no registry is named."""
    if not any(os.environ.get(name) for name in _URIS):
        raise ConfigurationError("MLflow: set MLFLOW_TRACKING_URI, such as https://mlflow.internal")
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise ConfigurationError("MLflow needs mlflow-skinny; run: pip install 'tagmill[mlflow]'") from error
    with mlflow_errors():
        return MlflowClient()


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Raise what MLflow raises in the block as an error that a user can act on."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except MlflowException as error:
        code, said = error.error_code, f"MLflow: {first_line(error)}"
        if code in _WRONG_INPUT:
            raise InputError(said) from error
        if code in _REFUSED or "401" in said or "403" in said:
            raise ConfigurationError(f"{said}; see MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_TOKEN") from error
        raise ServiceDown(f"{said}; try again later, or correct MLFLOW_TRACKING_URI") from error
    except (RequestException, ConnectionError) as error:
        raise ServiceDown(f"MLflow does not answer: {first_line(error)}; try again later") from error
