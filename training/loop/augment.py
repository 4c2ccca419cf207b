"""Random changes to a batch of training images and its masks, as whole-tensor operations."""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the usual name in torch code

from tagmill.tasks.metrics import IGNORE


@dataclass(frozen=True)
class Augmentation:
    """The limits of each random change; 0 switches it off."""

    #: probability of a left-right flip
    flip: float = 0.5
    #: largest shift, as a share of the side
    shift: float = 0.0
    #: largest zoom in or out: the factor is at most 1 + zoom
    zoom: float = 0.0
    #: largest angle, in degrees
    angle: float = 0.0
    #: largest change of brightness, contrast and saturation, as a share
    color: float = 0.0
    #: largest side of a gray rectangle drawn over the image, as a share of the side
    erase: float = 0.0
    #: probability that half the labels of another image's mask are pasted, with their pixels
    paste: float = 0.0


class Strength(StrEnum):
    """The named augmentations."""

    NONE = "none"
    LIGHT = "light"
    MEDIUM = "medium"
    STRONG = "strong"


#: light shifts and flips without resampling, for short trainings on small images; medium also erases and recolors, for
#: long ones; strong also rotates and zooms, for photos
STRENGTHS = {
    Strength.NONE: None,
    Strength.LIGHT: Augmentation(flip=0.5, shift=0.063),
    Strength.MEDIUM: Augmentation(flip=0.5, shift=0.125, color=0.2, erase=0.25),
    Strength.STRONG: Augmentation(flip=0.5, shift=0.08, zoom=0.25, angle=12.0, color=0.35, erase=0.35),
}


def augment(
    pixels: Tensor, masks: Tensor | None, strength: Augmentation, generator: torch.Generator, size: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Change float32 [N, 3, H, W] of 0..255 and uint8 [N, H, W]; the same generator state gives the same result.

    With `size`, images that are zoomed or rotated come out with so many pixels on both sides.
    """
    if strength.zoom or strength.angle:
        pixels, masks = _warp(pixels, masks, strength, generator, size)
    else:
        pixels, masks = _flip_and_shift(pixels, masks, strength, generator)
    if strength.color:
        pixels = _recolor(pixels, strength.color, generator)
    if strength.erase:
        pixels = _erase(pixels, strength.erase, generator)
    if strength.paste and masks is not None:
        pixels, masks = _paste(pixels, masks, strength.paste, generator)
    return pixels, masks


def _uniform(count: int, low: float, high: float, generator: torch.Generator, device: torch.device) -> Tensor:
    # Drawn on the CPU so that a seed gives the same augmentation on every device.
    return (torch.rand(count, generator=generator) * (high - low) + low).to(device, non_blocking=True)


def _flip_and_shift(
    pixels: Tensor, masks: Tensor | None, strength: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Shift by whole pixels, with reflected borders, and flip: small images stay sharp."""
    count, _, height, width = pixels.shape
    device = pixels.device
    rows = _shifted(height, _uniform(count, -strength.shift, strength.shift, generator, device))
    columns = _shifted(width, _uniform(count, -strength.shift, strength.shift, generator, device))
    flipped = _uniform(count, 0, 1, generator, device) < strength.flip
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    image = torch.arange(count, device=device)[:, None, None]
    chosen = (image, rows[:, :, None], columns[:, None, :])
    moved = pixels.permute(0, 2, 3, 1)[chosen].permute(0, 3, 1, 2)
    return moved, None if masks is None else masks[chosen]


def _shifted(length: int, shift: Tensor) -> Tensor:
    """Return the source index of each of `length` positions after the shift, int64 [N, length]."""
    sources = torch.arange(length, device=shift.device)[None] + (shift * length).round().long()[:, None]
    sources = sources.abs()
    return torch.where(sources >= length, 2 * (length - 1) - sources, sources)


def _warp(
    pixels: Tensor, masks: Tensor | None, strength: Augmentation, generator: torch.Generator, size: int
) -> tuple[Tensor, Tensor | None]:
    """Rotate, zoom, shift and flip in one resampling; masks take the nearest pixel, and IGNORE outside the image."""
    count, device = len(pixels), pixels.device
    angle = _uniform(count, -strength.angle, strength.angle, generator, device) * (math.pi / 180)
    limit = math.log1p(strength.zoom)
    scale = _uniform(count, -limit, limit, generator, device).exp()
    sign = torch.where(_uniform(count, 0, 1, generator, device) < strength.flip, -1.0, 1.0)
    across = _uniform(count, -2 * strength.shift, 2 * strength.shift, generator, device)
    down = _uniform(count, -2 * strength.shift, 2 * strength.shift, generator, device)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    matrix = torch.stack(
        [torch.stack([cosine * sign, -sine, across], 1), torch.stack([sine * sign, cosine, down], 1)], 1
    )
    height, width = (size, size) if size else pixels.shape[2:]
    grid = F.affine_grid(matrix, [count, 3, height, width], align_corners=False)
    moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if masks is None:
        return moved, None
    # grid_sample fills with 0 outside: with 255 - mask that becomes IGNORE.
    inverted = (IGNORE - masks.float())[:, None]
    warped = F.grid_sample(inverted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved, (IGNORE - warped[:, 0]).to(torch.uint8)


def _recolor(pixels: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Scale each channel and the brightness, then change saturation and contrast."""
    count, device = len(pixels), pixels.device

    def factor(share: float) -> Tensor:
        return _uniform(count, 1 - share, 1 + share, generator, device).view(count, 1, 1, 1)

    tint = torch.cat([factor(amount / 3) for _ in range(3)], dim=1) * factor(amount)
    pixels = pixels * tint
    gray = pixels.mean(dim=1, keepdim=True)
    pixels = torch.lerp(gray.expand_as(pixels), pixels, factor(amount).expand_as(pixels))
    mean = gray.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(pixels), pixels, factor(amount).expand_as(pixels)).clamp(0, 255)


def _erase(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Fill one rectangle of each image, of at most `share` of its sides, with gray."""
    count, _, height, width = pixels.shape
    device = pixels.device
    inside = []
    for length in (height, width):
        middle = _uniform(count, 0, length, generator, device)[:, None]
        half = _uniform(count, 0, share * length / 2, generator, device)[:, None]
        inside.append((torch.arange(length, device=device)[None] - middle).abs() < half)
    rectangle = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return pixels.masked_fill(rectangle, 127.0)


def _paste(pixels: Tensor, masks: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste each label of another image of the batch with probability 0.5 (ClassMix, arXiv 2007.07936)."""
    count, device = len(pixels), pixels.device
    taken = torch.rand(count, IGNORE + 1, generator=generator) < 0.5
    taken[:, IGNORE] = False
    taken &= (torch.rand(count, 1, generator=generator) < probability).expand_as(taken)
    other = torch.roll(torch.arange(count, device=device), 1)
    pasted = taken.to(device, non_blocking=True).gather(1, masks[other].flatten(1).long()).view_as(masks)
    return torch.where(pasted[:, None], pixels[other], pixels), torch.where(pasted, masks[other], masks)
