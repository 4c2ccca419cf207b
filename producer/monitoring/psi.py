"""The population stability index of two distributions over the same bins, and how large chance alone makes it.

PSI = sum over bins of (p - q) ln(p / q), where p and q are the shares of the two (Siddiqi 2006, Credit Risk Scorecards,
chapter 7). It is Jeffreys' divergence: it is 0 for equal shares, every term is positive, and swapping the two changes
nothing. If both were drawn from the same distribution, PSI / (1/n + 1/m) is about chi-squared with bins - 1 degrees of
freedom (Yurdakul 2018, Statistical Properties of Population Stability Index).
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, TypeVar

#: Chance alone exceeds `Psi.chance` once in so many comparisons.
ONCE_IN = 1000
#: A bin with fewer expected counts is pooled with others of that kind, as for chi-squared tests (Cochran 1954).
LEAST_EXPECTED = 5.0
#: counts that stand for none, so that the logarithm is finite
HALF: Final = 0.5

Bin = TypeVar("Bin", bound=Hashable)


@dataclass(frozen=True)
class Psi:
    """An index, and what it is compared with."""

    value: float
    #: what chance alone exceeds once in `ONCE_IN` times, at these numbers of counts and bins
    chance: float
    #: bins after pooling
    bins: int


def psi(now: Mapping[Bin, int], before: Mapping[Bin, int]) -> Psi | None:
    """Return the index of counts by bin; None if one of the two has no count.

    A bin that is empty on one side counts as half a count there. Bins that are rare on both sides are one bin.
    """
    pairs = pooled(now, before)
    n, m = sum(now.values()), sum(before.values())
    if not n or not m:
        return None
    value = sum(term(one, n, other, m) for one, other in pairs)
    return Psi(value, (1 / n + 1 / m) * chi_squared_quantile(1 - 1 / ONCE_IN, len(pairs) - 1), len(pairs))


def term(now: int, n: int, before: int, m: int) -> float:
    """Return what one bin adds to the index: `now` of `n` counts, and `before` of `m`."""
    p, q = max(now, HALF) / n, max(before, HALF) / m
    return (p - q) * math.log(p / q) if now or before else 0.0


def pooled(now: Mapping[Bin, int], before: Mapping[Bin, int]) -> list[tuple[int, int]]:
    """Return the counts of each bin, and those of all rare bins together."""
    n, m = sum(now.values()), sum(before.values())
    smaller = min(n, m) / (n + m) if n + m else 0.0
    kept, rare = [], [0, 0]
    for found in now.keys() | before.keys():
        pair = (now.get(found, 0), before.get(found, 0))
        if sum(pair) * smaller >= LEAST_EXPECTED:
            kept.append(pair)
        else:
            rare = [rare[0] + pair[0], rare[1] + pair[1]]
    return sorted([*kept, (rare[0], rare[1])]) if any(rare) else sorted(kept)


def chi_squared_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of chi-squared by the approximation of Wilson and Hilferty (1931); 0 without degrees.

    At a probability of 0.999 it is 3 % above the exact one for one degree, and less than 2 % from three degrees on.
    """
    if degrees < 1:
        return 0.0
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + NormalDist().inv_cdf(probability) * math.sqrt(spread)) ** 3)
