"""The name of a device: auto, cpu, openvino, cuda:N or tensorrt:N."""

import re
from dataclasses import dataclass

from tagmill.errors import ConfigurationError

#: kind -> may a number of a GPU follow
_KINDS = {"auto": False, "cpu": False, "openvino": False, "cuda": True, "tensorrt": True}


_DEVICE = re.compile(r"([a-z]+)(?::([0-9]+))?")


@dataclass(frozen=True)
class Device:
    """A device as it is written on a command line: auto, cpu, openvino, cuda:N or tensorrt:N."""

    kind: str
    #: number of the GPU
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Raise ConfigurationError where it is no device: what `tagmill.settings` accepts is accepted here."""
        found = _DEVICE.fullmatch(text)
        if not found or found[1] not in _KINDS or (found[2] and not _KINDS[found[1]]):
            raise ConfigurationError(f"device {text}: must be auto, cpu, cuda:N, tensorrt:N or openvino")
        return cls(found[1], int(found[2] or 0))

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return _KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.on_gpu else self.kind
