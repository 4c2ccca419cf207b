"""The learning rate over a training: up for a share of the steps, then down to almost zero."""

import math

#: default share of the steps on which the rate rises
RISING = 0.25
#: rate of the first and of the last step, as a share of the highest rate
FIRST, LAST = 1 / 25, 1 / 250_000


def one_cycle(step: int, steps: int, rising: float = RISING) -> float:
    """Return the rate of a step, counted from 0, as a share of the highest rate: two half cosines.

    The one-cycle policy (Smith, arXiv 1803.09820); `rising` is the share of the steps on which the rate rises.
    """
    # torch's OneCycleLR has the same shape but divides by zero if a training has four steps.
    peak = max(1.0, rising * steps - 1)
    if step <= peak:
        return _half_cosine(FIRST, 1.0, step / peak)
    return _half_cosine(1.0, LAST, min(1.0, (step - peak) / max(1.0, steps - 1 - peak)))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
