"""The scores of single pixels, on which a segmenter is calibrated and its calibration is measured."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tagmill.tasks.metrics import IGNORE
from training.data.arrays import Arrays, spread
from training.evaluation.predict import logits

#: images that pixels are taken of, and pixels of each image
IMAGES, PIXELS = 500, 128


def sampled_pixels(
    network: nn.Module, arrays: Arrays, device: torch.device | str = "cpu", seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the logits of random pixels, float32 [P, labels], and their true labels, int64 [P].

    Neighboring pixels are right or wrong together, so few pixels of each of many images tell as much as all. Ignored
    pixels are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    images, masks = spread(arrays.pixels, IMAGES), spread(arrays.targets, IMAGES)
    found, true, done = [], [], 0
    for batch in logits(network, images, device):
        values = batch.flatten(2).cpu()
        truth = torch.from_numpy(masks[done : done + len(values)]).flatten(1).long()
        done += len(values)
        chosen = torch.randint(0, truth.shape[1], (len(truth), PIXELS), generator=generator)
        picked = truth.gather(1, chosen)
        counted = picked != IGNORE
        found.append(values.gather(2, chosen[:, None].expand(-1, values.shape[1], -1)).transpose(1, 2)[counted])
        true.append(picked[counted])
    return torch.cat(found).numpy(), torch.cat(true).numpy()
