"""Random changes to a batch of training pixels, and to its masks with them, as whole-tensor operations."""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name every reader of torch code knows

from tagmill.tasks.figures import IGNORE


@dataclass(frozen=True)
class Augmentation:
    """How much each image may change; 0 switches a change off."""

    #: chance of a left-right flip
    flip: float = 0.5
    #: largest shift, as a share of the side
    shift: float = 0.0
    #: largest factor of zooming in or out, as 1 + zoom
    zoom: float = 0.0
    #: largest angle, in degrees
    angle: float = 0.0
    #: largest change of brightness, contrast and saturation, as a share
    color: float = 0.0
    #: side of a gray square laid over the image, as a share of the side
    erase: float = 0.0
    #: chance that half the labels of another picture's mask are pasted, with their pixels
    paste: float = 0.0


class Strength(StrEnum):
    """How much images change, by name."""

    NONE = "none"
    LIGHT = "light"
    MEDIUM = "medium"
    STRONG = "strong"


#: Light moves images without resampling them, for short trainings of small images; medium also covers and recolors
#: them, for long ones; strong turns and zooms them, too, for photos.
STRENGTHS = {
    Strength.NONE: None,
    Strength.LIGHT: Augmentation(flip=0.5, shift=0.063),
    Strength.MEDIUM: Augmentation(flip=0.5, shift=0.125, color=0.2, erase=0.25),
    Strength.STRONG: Augmentation(flip=0.5, shift=0.08, zoom=0.25, angle=12.0, color=0.35, erase=0.35),
}


def augment(
    pixels: Tensor, masks: Tensor | None, strength: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Change float32 [N, 3, H, W] of 0..255 and uint8 [N, H, W]; the same generator state gives the same change."""
    if strength.zoom or strength.angle:
        pixels, masks = _warp(pixels, masks, strength, generator)
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
    # Drawn on the CPU whatever the device is, so that a seed means the same images everywhere.
    return (torch.rand(count, generator=generator) * (high - low) + low).to(device, non_blocking=True)


def _flip_and_shift(
    pixels: Tensor, masks: Tensor | None, strength: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Move by whole pixels, mirrored at the edge: small images stay as sharp as they were."""
    count, _, height, width = pixels.shape
    device = pixels.device
    rows = _moved(height, _uniform(count, -strength.shift, strength.shift, generator, device))
    columns = _moved(width, _uniform(count, -strength.shift, strength.shift, generator, device))
    flipped = _uniform(count, 0, 1, generator, device) < strength.flip
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    picture = torch.arange(count, device=device)[:, None, None]
    chosen = (picture, rows[:, :, None], columns[:, None, :])
    moved = pixels.permute(0, 2, 3, 1)[chosen].permute(0, 3, 1, 2)
    return moved, None if masks is None else masks[chosen]


def _moved(length: int, shift: Tensor) -> Tensor:
    """Return which of `length` positions each position shows after the shift, int64 [N, length]."""
    places = torch.arange(length, device=shift.device)[None] + (shift * length).round().long()[:, None]
    places = places.abs()
    return torch.where(places >= length, 2 * (length - 1) - places, places)


def _warp(
    pixels: Tensor, masks: Tensor | None, strength: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Turn, zoom, shift and flip in one resampling; masks take the nearest pixel, and are ignored outside."""
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
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if masks is None:
        return moved, None
    # grid_sample fills with 0 outside: 255 - mask makes that the ignored value.
    inverted = (IGNORE - masks.float())[:, None]
    turned = F.grid_sample(inverted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved, (IGNORE - turned[:, 0]).to(torch.uint8)


def _recolor(pixels: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Change brightness by factor a channel, then contrast and saturation."""
    count, device = len(pixels), pixels.device

    def factor(share: float) -> Tensor:
        return _uniform(count, 1 - share, 1 + share, generator, device).view(count, 1, 1, 1)

    tint = torch.cat([factor(amount / 3) for _ in range(3)], dim=1) * factor(amount)
    pixels = pixels * tint
    gray = pixels.mean(dim=1, keepdim=True)
    pixels = torch.lerp(gray.expand_as(pixels), pixels, factor(amount).expand_as(pixels))
    middle = gray.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(middle.expand_as(pixels), pixels, factor(amount).expand_as(pixels)).clamp(0, 255)


def _erase(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    count, _, height, width = pixels.shape
    device = pixels.device
    inside = []
    for length in (height, width):
        middle = _uniform(count, 0, length, generator, device)[:, None]
        half = _uniform(count, 0, share * length / 2, generator, device)[:, None]
        inside.append((torch.arange(length, device=device)[None] - middle).abs() < half)
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return pixels.masked_fill(square, 127.0)


def _paste(pixels: Tensor, masks: Tensor, chance: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste each label of another image of the batch with a chance of one half (ClassMix, arXiv 2007.07936)."""
    count, device = len(pixels), pixels.device
    taken = torch.rand(count, IGNORE + 1, generator=generator) < 0.5
    taken[:, IGNORE] = False
    taken &= (torch.rand(count, 1, generator=generator) < chance).expand_as(taken)
    other = torch.roll(torch.arange(count, device=device), 1)
    pasted = taken.to(device, non_blocking=True).gather(1, masks[other].flatten(1).long()).view_as(masks)
    return torch.where(pasted[:, None], pixels[other], pixels), torch.where(pasted, masks[other], masks)
