"""A missing package is reported with the extra that installs it."""

import pytest

from tagmill.cli.commands import COMMANDS, missing_extra
from tagmill.errors import ConfigurationError


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("tag", "onnxruntime", "cpu"),
        ("train", "torch", "train"),
        ("export", "torch", "train"),
        ("export", "onnxruntime", "cpu"),
        ("evaluate", "cv2", "cpu"),
        ("evaluate", "matplotlib.pyplot", "train"),
    ],
)
def test_the_error_names_the_extra_that_installs_the_package(command: str, package: str, extra: str) -> None:
    error = missing_extra(command, ModuleNotFoundError(name=package), COMMANDS[command].extra)
    assert isinstance(error, ConfigurationError)
    assert str(error).endswith(f"which is not installed; run: pip install 'tagmill[{extra}]'")


def test_a_missing_module_of_tagmill_itself_names_no_extra() -> None:
    error = ModuleNotFoundError(name="worker.nothing")
    assert missing_extra("tag", error, "cpu") is error
