"""Build a network by its name: Tagmill's classifiers and segmenters, torchvision's, and support vectors."""

from typing import Any

from torch import nn

from training.models import backbones, classifiers, pyramid, segmenters


def build(arch: str, size: int, labels: int, **options: Any) -> nn.Module:
    """Return a new network that maps float32 [N, 3, size, size] of 0..255 to logits.

    Raise ValueError for a size that it cannot take, or an unknown name.
    """
    if arch == "svc":
        from training.models.svm import SupportVectors  # scikit-learn takes a second to import

        return SupportVectors(size, labels, **options)
    if "head" in options:
        return backbones.build_transfer(arch, size, labels, **options)
    if arch in classifiers.BUILDERS:
        return classifiers.BUILDERS[arch](size, labels)
    if arch == segmenters.SegmentArch.PYRAMID:
        return pyramid.build_pyramid(size, labels, **options)
    if arch in (*segmenters.SegmentArch, *segmenters.TORCHVISION):
        return segmenters.build_segmenter(arch, size, labels, **options)
    raise ValueError(f"no network is called {arch}")
