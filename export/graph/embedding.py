"""The embedding of a classifier: what its last layer reads, centered, in fewer numbers, of unit length.

The pooled features before the head serve tasks that the network was not trained for (Razavian et al. 2014, CNN
Features off-the-shelf, arXiv 1403.6382). Centering and principal components keep what differs between images (Jégou
and Chum 2012, Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.errors import InputError
from training.evaluation.predict import logits


@dataclass(frozen=True)
class Projection:
    """From features [N, F] to an embedding [N, D]: subtract the mean, keep D principal components."""

    #: float32 [F]
    mean: NDArray[np.float32]
    #: float32 [F, D]
    components: NDArray[np.float32]

    @property
    def width(self) -> int:
        """The number of values of an embedding."""
        return int(self.components.shape[1])


class FeatureTap:
    """Watches what the last linear layer of a network reads. Raise InputError for a network without one."""

    def __init__(self, network: nn.Module) -> None:
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise InputError("--embedding is what the last linear layer reads, and this network has none")
        self.width = linear[-1].in_features
        self._read: list[Tensor] = []
        self._hook = linear[-1].register_forward_pre_hook(lambda layer, inputs: self._read.append(inputs[0]))

    def take(self) -> Tensor:
        """Return the features of the last call, [N, F]; of a network that looks at several views their mean."""
        features = torch.stack(self._read).mean(0) if len(self._read) > 1 else self._read[0]
        self._read.clear()
        return features

    def close(self) -> None:
        """Stop watching."""
        self._hook.remove()


def fit_projection(network: nn.Module, images: NDArray[np.uint8], width: int, seed: int) -> Projection:
    """Return the projection of the features of uint8 [N, H, W, 3] to `width` numbers.

    Raise InputError if there are fewer features or images than that.
    """
    tap = FeatureTap(network)
    try:
        most = min(tap.width, len(images))
        if width > most:
            raise InputError(
                f"--embedding {width}: the network has {tap.width} features, and there are {len(images)} images to "
                f"choose from them; at most {most} are possible"
            )
        features = torch.cat([tap.take() for _ in logits(network, images)]).float().numpy()
    finally:
        tap.close()
    found = PCA(width, random_state=seed).fit(features)
    return Projection(found.mean_.astype(np.float32), np.ascontiguousarray(found.components_.T, np.float32))


class Embedded(nn.Module):
    """A network that returns its logits, and the embedding of each image, float32 [N, D]."""

    mean: Tensor
    components: Tensor

    def __init__(self, network: nn.Module, projection: Projection) -> None:
        super().__init__()
        self.network = network
        self._tap = FeatureTap(network)
        self.register_buffer("mean", torch.from_numpy(projection.mean))
        self.register_buffer("components", torch.from_numpy(projection.components))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.network(pixels)
        return logits, F.normalize((self._tap.take() - self.mean) @ self.components)
