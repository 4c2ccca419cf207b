"""Predict with a torch network, from the uint8 pixels of `tagmill.images.preprocess`."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tagmill.errors import ConfigurationError

#: most images of one call on a CPU and on a GPU, and most pixels
BATCH, GPU_BATCH = 128, 2048
PIXELS = BATCH * 128**2


def device_for(wanted: str) -> torch.device:
    """Return the device for auto, cpu, cuda or cuda:N. Raise ConfigurationError if there is no such device."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(
            f"device {wanted}: torch, built for CUDA {torch.version.cuda}, finds no GPU; see whether nvidia-smi shows "
            "one and a driver for that CUDA, or choose --device cpu"
        )
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigurationError(f"device {wanted}: must be auto, cpu or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"device {wanted}: torch finds {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def fast_in_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32: on GPUs that compute in it, and on CPUs with AMX.

    GPUs before Ampere only emulate it. On a CPU with AVX-512 BF16 alone it was measured to be slower.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def call_size(height: int, width: int, device: torch.device | str = "cpu") -> int:
    """Return how many images of that size go into one call."""
    most = GPU_BATCH if torch.device(device).type == "cuda" else BATCH
    return max(1, min(most, PIXELS // (height * width)))


def to_pixels(images: NDArray[np.uint8] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return uint8 [N, H, W, 3] as float32 [N, 3, H, W] of 0..255 in channels-last memory."""
    stored = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    return stored.to(device).permute(0, 3, 1, 2).float()


@torch.inference_mode()
def logits(network: nn.Module, images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Yield the logits of the images, float32, one batch at a time."""
    network.eval()
    size = call_size(images.shape[1], images.shape[2], device)
    for start in range(0, len(images), size):
        yield network(to_pixels(images[start : start + size], device)).float()


def all_logits(
    network: nn.Module, images: NDArray[np.uint8], device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Return the logits of all images, float32 [N, labels]."""
    found: NDArray[np.float32] = torch.cat([batch.cpu() for batch in logits(network, images, device)]).numpy()
    return found


def predict_masks(
    network: nn.Module, images: NDArray[np.uint8], device: torch.device | str = "cpu"
) -> NDArray[np.uint8]:
    """Return the label index of each pixel, uint8 [N, H, W]."""
    masks = (batch.argmax(1).to(torch.uint8).cpu() for batch in logits(network, images, device))
    found: NDArray[np.uint8] = torch.cat(list(masks)).numpy()
    return found
