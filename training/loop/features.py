"""The features of a frozen backbone: computed once for each image, and cached on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tagmill.files import atomic_write, user_cache
from training.evaluation.predict import call_size, to_pixels
from training.models.backbones import Transfer


def cache_folder() -> Path:
    """Return the folder of cached features: ~/.cache/tagmill/features, or below XDG_CACHE_HOME."""
    return user_cache() / "features"


def backbone_features(
    network: Transfer,
    pixels: NDArray[np.uint8],
    device: torch.device,
    step: Callable[[int], object] = lambda done: None,
    cache: Path | None = None,
) -> NDArray[np.float32]:
    """Return float32 [N, F] for uint8 [N, H, W, 3]; read them from the cache for the same weights and images.

    `step` is called with the number of images done. A cache that cannot be written is skipped.
    """
    path = (cache or cache_folder()) / f"{_key(network, pixels)}.npy"
    try:
        features: NDArray[np.float32] = np.load(path)
        step(len(pixels))
        return features
    except (OSError, ValueError):
        features = _compute(network, pixels, device, step)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            np.save(temporary, features)
    except OSError:
        pass
    return features


@torch.inference_mode()
def _compute(
    network: Transfer, pixels: NDArray[np.uint8], device: torch.device, step: Callable[[int], object]
) -> NDArray[np.float32]:
    network.eval()
    batches, size = [], call_size(pixels.shape[1], pixels.shape[2], device)
    for start in range(0, len(pixels), size):
        batches.append(network.features(to_pixels(pixels[start : start + size], device)).float().cpu().numpy())
        step(start + len(batches[-1]))
    return np.concatenate(batches)


def _key(network: Transfer, pixels: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if not name.startswith("head."):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    digest.update(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
