"""The name of a device: auto, cpu, cuda:N, tensorrt:N or openvino."""

import re
from dataclasses import dataclass

#: the devices as the help of a --device option shows them
DEVICES = "auto|cpu|cuda:N|tensorrt:N|openvino"
#: those that training takes
TRAINING_DEVICES = "auto|cpu|cuda:N"

#: kind -> whether the number of a GPU may follow
_KINDS = {"auto": False, "cpu": False, "openvino": False, "cuda": True, "tensorrt": True}
_DEVICE = re.compile(r"([a-z]+)(?::([0-9]+))?")


@dataclass(frozen=True)
class Device:
    """A device as it is written on a command line: auto, cpu, cuda:N, tensorrt:N or openvino."""

    kind: str
    #: number of the GPU
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Return the device that `text` names. Raise ValueError if it is none; the message says what it must be."""
        found = _DEVICE.fullmatch(text)
        if not found or found[1] not in _KINDS or (found[2] and not _KINDS[found[1]]):
            raise ValueError("must be auto, cpu, cuda:N, tensorrt:N or openvino")
        return cls(found[1], int(found[2] or 0))

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return _KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.on_gpu else self.kind
