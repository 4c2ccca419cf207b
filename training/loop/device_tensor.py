"""What a training takes its batches from."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: share of a GPU's free memory that images may take while a network learns from them
ROOM = 1 / 3


class DeviceTensor:
    """Values of many images, any dtype [N, ...], that batches are taken from.

    They lie on the device where that has room enough: every copy from memory to a GPU makes the GPU wait.
    """

    def __init__(self, values: NDArray[Any] | Tensor, device: torch.device) -> None:
        stored = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        room = ROOM * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        self._values = stored.to(device) if stored.nbytes <= room else stored
        self._device = device

    def take(self, chosen: Tensor) -> Tensor:
        """Return those at int64 [batch], on the device."""
        here = chosen.to(self._values.device, non_blocking=True)
        return self._values.index_select(0, here).to(self._device, non_blocking=True)
