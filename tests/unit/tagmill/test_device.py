"""Settings and workers read the name of a device with one function."""

import pytest

from tagmill.device import Device
from tagmill.errors import ConfigurationError
from tagmill.settings import load_settings
from worker.devices.resolve import resolve_device


def test_a_kind_of_gpu_may_have_a_number() -> None:
    assert Device.parse("tensorrt:2") == Device("tensorrt", 2)
    assert (str(Device.parse("cuda")), str(Device.parse("openvino"))) == ("cuda:0", "openvino")
    assert load_settings(device="tensorrt:2").device == "tensorrt:2"
    assert resolve_device("tensorrt:2") == Device("tensorrt", 2)


@pytest.mark.parametrize(
    "text", ["gpu", "cuda:", "cpu:0", "openvino:1", "cuda:x", "CUDA", "auto:0", "cuda:\u0663", "cpu\n", ""]
)
def test_anything_else_is_refused_with_the_same_words_everywhere(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be auto, cpu, cuda:N, tensorrt:N or openvino$"):
        Device.parse(text)
    with pytest.raises(ConfigurationError, match=r"^TAGMILL_DEVICE: must be auto, cpu, cuda:N, tensorrt:N or openvino"):
        load_settings(device=text)
    with pytest.raises(ConfigurationError, match=r"^device (?s:.*): must be auto, cpu, cuda:N, tensorrt:N or openvino"):
        resolve_device(text)
