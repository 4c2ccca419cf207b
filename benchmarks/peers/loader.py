"""Tag images with a torch DataLoader and Pillow, and infer with ONNX Runtime or torch.

`python -m benchmarks.peers.loader JOB ort|torch`; https://docs.pytorch.org/docs/stable/data.html
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.plain import best, input_side, new_session, read_pillow
from benchmarks.support.bundles import untrained
from benchmarks.support.job import Job, Timed, main

BATCH = 32


class Pictures(Dataset[torch.Tensor]):
    """A data set of decoded images, uint8 [side, side, 3]."""

    def __init__(self, files: list[str], side: int) -> None:
        self._files = files
        self._side = side

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(read_pillow(self._files[index], self._side)))


def measure(job: Job, engine: str) -> Timed:
    """Time the whole loop, including the start of its workers."""
    session = new_session(job.bundles[0], job.threads)
    side = input_side(session)
    infer: Callable[[torch.Tensor], object] = lambda images: best(session, images.numpy())  # noqa: E731
    if engine == "torch":
        infer = torch_network(job.bundles[0], job.threads)
    started = time.perf_counter()
    loader = DataLoader(Pictures(job.files, side), BATCH, num_workers=job.threads)
    images = 0
    for batch in loader:
        infer(batch)
        images += len(batch)
    return Timed(images, time.perf_counter() - started)


def torch_network(bundle: str, threads: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the network in torch, channels last: from uint8 [N, H, W, 3] to the best five labels."""
    torch.set_num_threads(threads)
    network = untrained(bundle).network().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def infer(images: torch.Tensor) -> torch.Tensor:
        return network(images.permute(0, 3, 1, 2).float()).topk(5).indices

    return infer


if __name__ == "__main__":
    main(lambda job: measure(job, sys.argv[2]))
