"""Rounds in which every contender does the same job in turn, and the ratios within each round."""

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
    """Images a second of each contender in each round."""

    title: str
    rates: dict[str, list[float]]

    def ratios(self, one: str, other: str) -> list[float]:
        """Return how many times as fast `one` was as `other`, round by round."""
        return [a / b for a, b in zip(self.rates[one], self.rates[other], strict=True)]


def compare(
    title: str, contenders: Sequence["Contender"], job: Job, rounds: int, tell: Callable[[str], None]
) -> Comparison:
    """Let the contenders do the job `rounds` times, in turns."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number, contender in turns(contenders, rounds):
        timed = contender.measure(job)
        rates[contender.name].append(timed.images / timed.seconds)
        tell(f"{title}, round {number + 1}/{rounds}: {contender.name} {rates[contender.name][-1]:.0f} images/s")
    return Comparison(title, rates)


def turns(things: Sequence[_Thing], rounds: int) -> Iterator[tuple[int, _Thing]]:
    """Give each thing once a round, with the round's number; every other round goes backwards, since machines drift."""
    for number in range(rounds):
        for thing in things if number % 2 == 0 else reversed(things):
            yield number, thing


def spread(ratios: Sequence[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


def table(comparison: Comparison, base: str) -> str:
    """Return a Markdown table of rates and of `base` in relation to the others."""
    lines = [f"| {comparison.title} | images/s | {base} is as fast times |", "|---|---|---|"]
    for name, rates in comparison.rates.items():
        ratio = "1" if name == base else spread(comparison.ratios(base, name))
        lines.append(f"| {name} | {statistics.median(rates):.0f} | {ratio} |")
    return "\n".join(lines)
