"""Training data on the GPU if it fits there."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: share of a GPU's free memory that the images may take during a training
MEMORY_SHARE = 1 / 3


class DeviceTensor:
    """Values of many images, any dtype [N, ...], to take batches from.

    They are kept on the device if they fit: the GPU waits for every copy from main memory.
    """

    def __init__(self, values: NDArray[Any] | Tensor, device: torch.device) -> None:
        tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        limit = MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        self._values = tensor.to(device) if tensor.nbytes <= limit else tensor
        self._device = device

    def take(self, chosen: Tensor) -> Tensor:
        """Return the values at the indices int64 [batch], on the device."""
        indices = chosen.to(self._values.device, non_blocking=True)
        return self._values.index_select(0, indices).to(self._device, non_blocking=True)
