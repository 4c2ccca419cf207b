"""Which extra is named where a package is missing."""

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
def test_the_extra_that_is_named_brings_what_is_missing(command: str, package: str, extra: str) -> None:
    error = missing_extra(command, ModuleNotFoundError(name=package), COMMANDS[command].extra)
    assert isinstance(error, ConfigurationError)
    assert str(error).endswith(f"which is not installed; run: pip install 'tagmill[{extra}]'")


def test_a_module_of_our_own_that_is_missing_is_no_matter_of_extras() -> None:
    error = ModuleNotFoundError(name="worker.nothing")
    assert missing_extra("tag", error, "cpu") is error
