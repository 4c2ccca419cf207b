"""The values of the page's template: what it says of a run in words and numbers."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from producer.report.advice import ADVICE, retry_command
from producer.report.measure.accuracy import PAIRS
from producer.report.measure.figures import RunFigures
from producer.report.measure.selection import Selected
from producer.report.page import CHUNK
from tagmill.cli.terminal.run_display import taken
from tagmill.ledger.runs.cost import RunCost
from tagmill.ledger.runs.progress import RunProgress
from tagmill.locations.redact import shown_uri
from tagmill.outcomes import ErrorCode
from tagmill.pages.templating import count_images, duration
from tagmill.tasks.base import Headline

#: labels up to which a table shows all, and how many it shows of more
UNFOLDED, TOP = 30, 20

_CERTAINTY = {
    "classify": "for a classifier, its margin: the best score less the second best",
    "multilabel": "for several labels an image, how far the score nearest to 0.5 is from it",
    "segment": "for masks, their mean score, weighted by area",
}


def page_values(
    progress: RunProgress, cost: RunCost, figures: RunFigures, chosen: Selected, seed: int
) -> dict[str, Any]:
    """Return the values of the template."""
    tasks = dict.fromkeys(found.model.task for found in figures.models)
    judged = [
        (number, found) for number, found in enumerate(figures.models) if found.judged and found.accuracy.share.of
    ]
    certainty = "; ".join(_CERTAINTY[task] for task in tasks if task in _CERTAINTY)
    return {
        "progress": progress,
        "source": source_of(progress),
        "figures": figures,
        "tiles": tiles(progress, cost, figures),
        "notes": notes(progress, figures, chosen, seed),
        "facts": facts(progress, cost),
        "failures": [_failure(progress, figures, code, count) for code, count in figures.failures.most_common()],
        "judged": judged,
        "most_pairs": PAIRS,
        "unfolded": UNFOLDED,
        "top": TOP,
        "chunk": CHUNK,
        "certainty_said": f"How certain a model is: {certainty}." if certainty else "",
        "has_masks": any(found.task.gives_masks for found in figures.models),
        "has_maps": any(found.model.spec.get("activation_map") for found in figures.models),
        "read": _clock(progress.read_at),
        "version": version("tagmill"),
    }


def source_of(progress: RunProgress) -> str:
    """Return the sources of a run without logins and signatures."""
    return " ".join(map(shown_uri, progress.source.split(" ")))


def tiles(progress: RunProgress, cost: RunCost, figures: RunFigures) -> list[Headline]:
    """Return the figures that are read first."""
    found = []
    for model in figures.models:
        share = model.accuracy.share
        if share.value is not None:
            low, high = share.interval
            said = f"{low:.1%} to {high:.1%} with 95% certainty"
            found.append(Headline(f"right: {model.name}", f"{share.value:.1%}", said))
    found.append(Headline("images", f"{figures.images:,}", _each(figures.statuses)))
    if figures.images:
        failed = figures.statuses["failed"] / figures.images
        found.append(Headline("failed", f"{failed:.1%}", count_images(figures.statuses["failed"])))
    if progress.seconds:
        speed = cost.overall_images_per_second
        found.append(Headline("took", duration(progress.seconds), "from the first batch to the last"))
        found.append(Headline("images/s", f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}", "over the whole run"))
    if cost.price is not None and cost.price_per_1000_images is not None:
        whole = f"{_price(cost.price)} in all"
        found.append(Headline("cost of 1,000 images", _price(cost.price_per_1000_images), whole))
    return found


def notes(progress: RunProgress, figures: RunFigures, chosen: Selected, seed: int) -> list[str]:
    """Return what a reader must know before the figures."""
    said = []
    if progress.pending:
        advice = "Retry the run to tag them." if progress.ended else "Write it again once the run is done."
        missing = f"{count_images(progress.pending)} had no outcome when this page was written"
        said.append(f"The run is {progress.state}: {missing}. {advice}")
    if not chosen.everything:
        parts = [
            (chosen.failed, "that failed"),
            (chosen.wrong, "that are wrong"),
            (chosen.uncertain, "that are the least certain"),
            (chosen.drawn, f"drawn at random (seed {seed})"),
        ]
        listed = ", ".join(f"{count:,} {words}" for count, words in parts if count)
        said.append(
            f"Figures and charts are of all {figures.images:,} images. The grid shows {len(chosen.positions):,} of them"
            + (f": {listed}." if listed else ".")
        )
    others = figures.truths - figures.with_truth
    if others > 0:
        said.append(f"Of the truth, {others:,} {'key is' if others == 1 else 'keys are'} not in this run.")
    return said


def facts(progress: RunProgress, cost: RunCost) -> list[tuple[str, str]]:
    """Return what is known of the run, as names and values."""
    known = progress.tagged * len(progress.models) - progress.inferences
    found = [
        ("Source", source_of(progress)),
        ("Models", ", ".join(progress.models)),
        ("Submitted", _clock(progress.created_at)),
    ]
    if progress.started_at is not None:
        found.append(("First batch", _clock(progress.started_at)))
    if progress.finished_at is not None:
        found.append(("Last result", _clock(progress.finished_at)))
    found.append(("Batches", _each(progress.batches)))
    new = f"{progress.inferences:,} new"
    found.append(("Inferences", f"{new}, {known:,} known from before or from the same bytes" if known > 0 else new))
    found += [(name.capitalize(), words) for name, words in taken(progress, cost)]
    return found


def _failure(progress: RunProgress, figures: RunFigures, code: str, count: int) -> dict[str, Any]:
    meaning, advice = ADVICE[ErrorCode(code)]
    command = retry_command(progress.run, code, local=progress.is_local)
    return {
        "code": code,
        "images": count,
        "meaning": meaning,
        "advice": advice,
        "command": command,
        "examples": figures.examples[code],
    }


def _each(counts: Any) -> str:
    """Return counts by word in one line, without those that are zero."""
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _price(value: float) -> str:
    """Return a price with as many decimals as a small one needs."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.6f}".rstrip("0").rstrip(".")


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
