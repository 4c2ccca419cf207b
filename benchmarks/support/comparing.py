"""Measure contenders in turns on the same job, and take ratios within each round."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from benchmarks.support.job import Job, Timed

if TYPE_CHECKING:
    from benchmarks.support.contenders import Contender

#: times that a contender is measured whose longer run took no longer: something else kept the machine busy
TRIES = 3

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Comparison:
    """The images/s of each contender in each round: steady, and of the whole run with its start and its end."""

    title: str
    steady: dict[str, list[float]]
    whole: dict[str, list[float]]

    def ratios(self, one: str, other: str, *, whole: bool = False) -> list[float]:
        """Return the rate of `one` divided by the rate of `other`, round by round."""
        rates = self.whole if whole else self.steady
        return [a / b for a, b in zip(rates[one], rates[other], strict=True)]


def compare(
    title: str, contenders: Sequence["Contender"], job: Job, few: int, rounds: int, tell: Callable[[str], None]
) -> Comparison:
    """Measure every contender `rounds` times, in turns, each time with the first `few` images and with all of them.

    The steady rate is the further images over the further time, without what a start and an end cost.
    """
    found = Comparison(title, {each.name: [] for each in contenders}, {each.name: [] for each in contenders})
    for number, contender in turns(contenders, rounds):
        name = contender.name
        first, every = _both(contender, job, few)
        found.steady[name].append((every.images - first.images) / (every.seconds - first.seconds))
        found.whole[name].append(every.images / every.seconds)
        rates = f"{found.steady[name][-1]:.0f} images/s, whole run {found.whole[name][-1]:.0f}"
        tell(f"{title}, round {number + 1}/{rounds}: {name} {rates}")
    return found


def _both(contender: "Contender", job: Job, few: int) -> tuple[Timed, Timed]:
    """Measure the first `few` images and all of them. Raise RuntimeError if all took no longer, `TRIES` times."""
    for _ in range(TRIES):
        first, every = contender.measure(job.first(few)), contender.measure(job)
        if every.seconds > first.seconds:
            return first, every
    raise RuntimeError(f"{contender.name}: {every.images} images took no longer than {first.images}; use more images")


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
    lines = [
        f"| {comparison.title} | images/s | {base} is as fast times | images/s, whole run | times, whole run |",
        "|---|---|---|---|---|",
    ]
    for name, rates in comparison.steady.items():
        whole = comparison.whole[name]
        steadily, wholly = (
            "1" if name == base else spread(comparison.ratios(base, name, whole=each)) for each in (False, True)
        )
        lines.append(
            f"| {name} | {statistics.median(rates):.0f} | {steadily} | {statistics.median(whole):.0f} | {wholly} |"
        )
    return "\n".join(lines)
