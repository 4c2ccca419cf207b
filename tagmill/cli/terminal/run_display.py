"""Show runs on a terminal: tables, and a live progress bar."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn
from rich.table import Table
from sqlalchemy import Engine

from tagmill.cli.terminal.console import open_console, text_column
from tagmill.errors import ExitCode
from tagmill.ledger.runs.cost import RunCost
from tagmill.ledger.runs.progress import RunProgress, run_progress
from tagmill.outcomes import ErrorCode

#: characters of a reason that are shown
_REASON_LENGTH = 300
#: seconds between two queries of a run's progress
POLL_SECONDS = 0.5


def progress_bar(console: Console) -> Progress:
    """Return the progress bar of commands that process images; it leaves no trace in a log file."""
    return Progress(
        SpinnerColumn(),
        text_column("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        text_column("{task.fields[note]}"),
        console=console,
        transient=not console.is_terminal,
    )


@contextmanager
def counting_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar of that many images on standard error; yield the function that counts one."""
    with progress_bar(open_console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda: bar.advance(task)


def note(progress: RunProgress) -> str:
    """Return speed, remaining time and failures in a few words."""
    if progress.workers_waiting and not progress.ended:
        return "workers are waiting for the database"
    if (lacking := _lacking(progress)) and not progress.batches["running"]:
        return str(lacking[0]["detail"])
    if progress.state == "paused":
        return "paused"
    if progress.state == "queued":
        return "waiting for a worker"
    words = [f"{progress.images_per_second:.0f} images/s"]
    if not progress.ended and progress.eta_seconds is not None:
        words.append(f"{timedelta(seconds=round(progress.eta_seconds))} to go")
    if progress.failed:
        words.append(f"{progress.failed} failed")
    return ", ".join(words)


def watch(engine: Engine, run_id: int) -> RunProgress:
    """Show a live bar on stderr until every image of the run has an outcome, or the run is cancelled."""
    with progress_bar(open_console(stderr=True)) as bar:
        progress = run_progress(engine, run_id)
        task = bar.add_task(f"run {run_id}", total=progress.images, note="")
        while True:
            progress = run_progress(engine, run_id)
            bar.update(task, completed=progress.tagged + progress.failed, note=note(progress))
            if progress.ended:
                return progress
            time.sleep(POLL_SECONDS)


def all_failed(progress: RunProgress) -> bool:
    """Return whether a run ended and none of its images was tagged."""
    return progress.ended and 0 < progress.images == progress.failed


def ending(progress: RunProgress) -> str:
    """Return the state of a run in words, with the codes of failed images; a run without a tag is not "done"."""
    if not (progress.ended and progress.failed):
        return progress.state
    codes = ", ".join(f"{count} {code}" for code, count in progress.failures.items())
    if all_failed(progress):
        return f"failed, none of its {progress.images} images was tagged ({codes})"
    return f"{progress.state}, {progress.failed} of {progress.images} images failed ({codes})"


def exit_code(progress: RunProgress) -> ExitCode:
    """Return 3 if images of an ended run failed or were left out, else 0."""
    return ExitCode.FAILED_IMAGES if progress.ended and progress.tagged < progress.images else ExitCode.DONE


def status_table(progress: RunProgress, cost: RunCost | None = None) -> Table:
    """Return a table of one run, with the command that retries each kind of failure worth a retry."""
    local = "the same `tagmill tag` again, with --retry-failed --code {}"
    retry = local if progress.is_local else f"tagmill run retry {progress.run} --code {{}}"
    title = "failed, no image was tagged" if all_failed(progress) else progress.state
    table = Table(title=f"run {progress.run}: {title}", show_header=False, title_justify="left")
    table.add_row("source", progress.source)
    if progress.submission is not None:
        table.add_row("id", progress.submission)
    if not progress.is_local:
        table.add_row("queue", progress.queue)
        table.add_row("priority", progress.priority.word)
    table.add_row("models", ", ".join(progress.models))
    table.add_row("images", f"{progress.images} ({progress.tagged} tagged, {progress.failed} failed)")
    words = {"done": "ended"} if all_failed(progress) else {}
    batches = (f"{count} {words.get(status, status)}" for status, count in progress.batches.items() if count)
    table.add_row("batches", ", ".join(batches))
    table.add_row("inferences", f"{progress.inferences} new")
    if progress.started_at is not None:
        table.add_row("duration", str(timedelta(seconds=round(progress.seconds))))
    table.add_row("speed", note(progress))
    for kind, figures in taken(progress, cost):
        table.add_row(kind, figures)
    if progress.state == "paused":
        table.add_row("paused", f"go on with: tagmill run resume {progress.run}")
    if progress.unpublished:
        table.add_row("not queued", f"{progress.unpublished} batches; go on: tagmill submit --resume {progress.run}")
    for fault in _lacking(progress):
        until = "" if fault["held_until"] is None else f"; no worker has it: until {_clock(fault['held_until'])} UTC"
        table.add_row("waits for", f"{fault['detail']}{until}")
    for fault in progress.unfit_workers:
        since = _clock(fault["since"])
        table.add_row("worker is out", f"{fault['worker']} since {since} UTC: {fault['detail']}")
    for errors in progress.batch_errors:
        label = "dead" if errors.dead else "to be tried again"
        table.add_row(label, f"{errors.batches} batches, {errors.images} images: {errors.reason[:_REASON_LENGTH]}")
    for code, count in progress.failures.items():
        advice = f" ({retry.format(code)})" if ErrorCode(code).worth_retrying else ""
        table.add_row(f"failed: {code}", f"{count}{advice}")
    return table


def taken(progress: RunProgress, cost: RunCost | None) -> Iterator[tuple[str, str]]:
    """Yield what a run took, and its price, as names and words."""
    if progress.requests:
        megabytes = f"{progress.bytes_fetched / 1e6:,.1f} MB in {progress.requests:,} requests"
        yield "fetched", f"{megabytes}, {progress.not_modified:,} not modified"
    if progress.cpu_seconds or progress.gpu_seconds:
        gpu = f", {progress.gpu_seconds:,.1f} s of GPU" if progress.gpu_seconds else ""
        yield "took", f"{progress.cpu_seconds:,.1f} s of CPU{gpu}"
    if cost is not None and cost.price is not None:
        of_thousand = cost.price_per_1000_images
        each = "" if of_thousand is None else f", {of_thousand:,.4f} for 1,000 images"
        yield "price", f"{cost.price:,.4f}{each}"


def _lacking(progress: RunProgress) -> list[Mapping[str, Any]]:
    """Return what the run waits for: what no worker has or, while nothing is in work, what a worker lacks."""
    idle = not progress.batches["running"]
    return [fault for fault in progress.waits_for if idle or fault["held_until"] is not None]


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M:%S")


def runs_table(runs: Iterable[RunProgress]) -> Table:
    """Return a table with one row per run."""
    runs = list(runs)
    # On a narrow terminal names wrap and numbers are not cut; the run's number stays on the narrowest.
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True, min_width=max((len(str(progress.run)) for progress in runs), default=0))
    for name in ("created", "state", "priority"):
        table.add_column(name, no_wrap=True)
    for name in ("images", "tagged", "failed"):
        table.add_column(name, no_wrap=True, justify="right")
    for name in ("models", "source"):
        table.add_column(name, overflow="fold")
    for progress in runs:
        created = datetime.fromtimestamp(progress.created_at, UTC).strftime("%m-%d %H:%M")
        state = "failed" if all_failed(progress) else progress.state
        table.add_row(
            *(str(progress.run), created, state, progress.priority.word),
            *(str(progress.images), str(progress.tagged), str(progress.failed)),
            *(" ".join(progress.models), progress.source),
        )
    return table
