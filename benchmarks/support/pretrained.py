"""Embeddings of photos by EfficientNet-Lite0 with ImageNet weights: what it reads before its head, at 224 pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from tagmill.images.resize import resize
from training.models.timm_backbones import build_timm, imagenet_weights

SIZE = 224


def open_photo(path: Path) -> Image.Image:
    """Return a photo upright, in RGB."""
    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


class Features:
    """The network without its head."""

    def __init__(self) -> None:
        normalize, network = build_timm("efficientnet_lite0")
        weights = imagenet_weights("efficientnet_lite0")
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
        self._network = nn.Sequential(normalize, network).eval()

    def of(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return float32 [N, F]."""
        pixels = np.empty((len(images), SIZE, SIZE, 3), np.uint8)
        for image, target in zip(images, pixels, strict=True):
            resize(np.asarray(image), target)
        with torch.inference_mode():
            found: NDArray[np.float32] = self._network(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
        return found

    def of_files(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Return float32 [N, F] of image files."""
        parts = [self.of([open_photo(path) for path in paths[at : at + 16]]) for at in range(0, len(paths), 16)]
        return np.concatenate(parts)
