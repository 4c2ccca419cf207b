"""Every network by its name: our own classifiers and segmenters, torchvision's, and support vectors."""

from typing import Any

from torch import nn

from training import backbones, networks, unets


def build(arch: str, size: int, labels: int, **options: Any) -> nn.Module:
    """Return a new network that maps float32 [N, 3, size, size] of 0..255 to logits.

    Raises ValueError for a size it cannot take or a name that is not known.
    """
    if arch == "svc":
        from training.support_vectors import SupportVectors  # scikit-learn takes a second to import

        return SupportVectors(size, labels, **options)
    if "head" in options:
        return backbones.build_transfer(arch, size, labels, **options)
    if arch in networks.BUILDERS:
        return networks.BUILDERS[arch](size, labels)
    if arch in (*unets.SegmentArch, *unets.TORCHVISION):
        return unets.build_segmenter(arch, size, labels, **options)
    raise ValueError(f"no network is called {arch}")
