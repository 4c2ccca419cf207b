"""Histograms of oriented gradients (Dalal & Triggs, CVPR 2005): where an image has edges, and which way they run."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name every reader of torch code knows

#: directions of an edge, over half a turn: which side is brighter does not count
DIRECTIONS = 9
#: cells of a side of a block; the blocks overlap by all but one cell
BLOCK = 2
#: no value of a normalized block is larger, so that one strong edge does not hide the others (Lowe 2004)
LARGEST = 0.2
#: what keeps an empty block from being divided by zero, in gray levels of 0..1
LEAST = 1e-2


def cell_of(size: int) -> int:
    """Return the pixels of a side of a cell: an eighth of the image, four at least."""
    return max(4, size // 8)


def hog_width(size: int) -> int:
    """Return how many features an image of this size has. Raises ValueError where it is smaller than a block."""
    blocks = size // cell_of(size) - BLOCK + 1
    if blocks < 1:
        raise ValueError(f"HOG features need images of at least {BLOCK * cell_of(size)} pixels, not {size}")
    return blocks**2 * BLOCK**2 * DIRECTIONS


class Hog(nn.Module):
    """From gray images float32 [N, 1, H, W] of 0..1 to features [N, width].

    Each pixel votes with the strength of its gradient, shared between the two nearest directions and summed over its
    cell; each block of cells is normalized (L2-Hys). Every step is continuous, so that the same image gives the same
    features whatever computes them.
    """

    centers: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.cell = cell_of(size)
        self.register_buffer("centers", torch.arange(float(DIRECTIONS)).view(1, -1, 1, 1), persistent=False)

    def forward(self, gray: Tensor) -> Tensor:
        cells = F.avg_pool2d(self._votes(gray), self.cell)
        rows, columns = cells.shape[2] - BLOCK + 1, cells.shape[3] - BLOCK + 1
        corners = [(down, right) for down in range(BLOCK) for right in range(BLOCK)]
        blocks = torch.cat([cells[:, :, y : y + rows, x : x + columns] for y, x in corners], 1)
        return self._normalized(self._normalized(blocks).clamp_max(LARGEST)).flatten(1)

    def _votes(self, gray: Tensor) -> Tensor:
        """Return how strong the edge through each pixel is in each direction, [N, DIRECTIONS, H, W]."""
        around = F.pad(gray, (1, 1, 1, 1), mode="replicate")
        across = around[:, :, 1:-1, 2:] - around[:, :, 1:-1, :-2]
        down = around[:, :, 2:, 1:-1] - around[:, :, :-2, 1:-1]
        strength = (across.square() + down.square()).sqrt()
        # Of a half turn, atan of the slope is the whole angle.
        angle = (down / torch.where(across == 0, 1e-12, across)).atan() * (DIRECTIONS / math.pi)
        apart = (torch.where(angle < 0, angle + DIRECTIONS, angle) - self.centers).abs()
        return strength * (1.0 - torch.minimum(apart, DIRECTIONS - apart)).relu()

    def _normalized(self, blocks: Tensor) -> Tensor:
        return blocks / (blocks.square().sum(1, keepdim=True) + LEAST**2).sqrt()
