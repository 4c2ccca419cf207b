"""Whether one of two models is right more often on the same images: the difference, its interval, and chance."""

from dataclasses import dataclass
from math import comb, sqrt

#: images that one model alone has right, from which on the test of McNemar is approximated
_EXACT = 1_000


@dataclass(frozen=True)
class Paired:
    """How often two models are right on the same images."""

    images: int
    right_a: int
    right_b: int
    #: images that one of them alone has right
    only_a: int
    only_b: int

    @property
    def difference(self) -> float:
        """The share that B has right, less the share that A has right; 0 without images."""
        return (self.only_b - self.only_a) / self.images if self.images else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the difference (Wald, after half an image is added
        to each cell: Agresti and Min 2005)."""
        total = self.images + 2
        only_a, only_b = self.only_a + 0.5, self.only_b + 0.5
        middle = (only_b - only_a) / total
        margin = 1.96 * sqrt(only_a + only_b - (only_b - only_a) ** 2 / total) / total
        return max(-1.0, middle - margin), min(1.0, middle + margin)

    @property
    def chance(self) -> float:
        """How likely chance alone makes them differ that much (McNemar 1947, exact, two-sided)."""
        n, least = self.only_a + self.only_b, min(self.only_a, self.only_b)
        if not n:
            return 1.0
        if n > _EXACT:
            from statistics import NormalDist

            return 2 * NormalDist().cdf(-(abs(self.only_a - self.only_b) - 1) / sqrt(n))
        fewer: int = sum(comb(n, k) for k in range(least + 1))
        return min(1.0, float(2 * fewer / 2**n))


def paired(pairs: "list[tuple[bool, bool]]") -> Paired:
    """Return the figures of images of which it is known whether A and whether B is right."""
    return Paired(
        len(pairs),
        sum(a for a, _ in pairs),
        sum(b for _, b in pairs),
        sum(a and not b for a, b in pairs),
        sum(b and not a for a, b in pairs),
    )
