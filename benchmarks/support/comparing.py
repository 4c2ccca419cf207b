"""Measure contenders in turns on the same job, and take ratios within each round."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from benchmarks.support.job import Job

if TYPE_CHECKING:
    from benchmarks.support.contenders import Contender

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Comparison:
    """The images/s of each contender in each round."""

    title: str
    rates: dict[str, list[float]]

    def ratios(self, one: str, other: str) -> list[float]:
        """Return the rate of `one` divided by the rate of `other`, round by round."""
        return [a / b for a, b in zip(self.rates[one], self.rates[other], strict=True)]


def compare(
    title: str, contenders: Sequence["Contender"], job: Job, rounds: int, tell: Callable[[str], None]
) -> Comparison:
    """Measure every contender `rounds` times, in turns."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number, contender in turns(contenders, rounds):
        timed = contender.measure(job)
        rates[contender.name].append(timed.images / timed.seconds)
        tell(f"{title}, round {number + 1}/{rounds}: {contender.name} {rates[contender.name][-1]:.0f} images/s")
    return Comparison(title, rates)


def turns(things: Sequence[_Thing], rounds: int) -> Iterator[tuple[int, _Thing]]:
    """Yield each thing once per round with the number of the round.

    Every other round runs in reverse order, because machines drift.
    """
    for number in range(rounds):
        for thing in things if number % 2 == 0 else reversed(things):
            yield number, thing


def spread(ratios: Sequence[float]) -> str:
    """Return the median and the range as text."""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


def table(comparison: Comparison, base: str) -> str:
    """Return a Markdown table of the rates and of the ratios of `base` to the others."""
    lines = [f"| {comparison.title} | images/s | {base} is as fast times |", "|---|---|---|"]
    for name, rates in comparison.rates.items():
        ratio = "1" if name == base else spread(comparison.ratios(base, name))
        lines.append(f"| {name} | {statistics.median(rates):.0f} | {ratio} |")
    return "\n".join(lines)
