"""Show the results of `tagmill bench` as tables or JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.bench.measure import Bench
from worker.inference.session import Session
from worker.inference.tuned_settings import Machine


def to_json(bench: Bench, machine: Machine, kept: Path) -> dict[str, Any]:
    """Return all measurements as JSON values."""
    return {
        "bundle": bench.sha256,
        "provider": bench.provider,
        "machine": asdict(machine),
        "images": bench.images,
        "seconds": round(bench.seconds, 1),
        "decode_images_per_second": round(bench.decode_rate, 1),
        "decode_share": round(bench.decode_share, 3),
        "both_images_per_second": round(bench.both_rate, 1),
        "candidates": [
            {
                "batch": candidate.batch,
                "threads": candidate.session.threads,
                "parallel": candidate.session.parallel,
                "images_per_second": [round(rate, 1) for rate in candidate.rates],
            }
            for candidate in bench.candidates
        ],
        "chosen": asdict(bench.tuned),
        "file": str(kept),
    }


def show(console: Console, bench: Bench, machine: Machine) -> None:
    """Print stage speeds, inference speed by batch size and threads, and the choice."""
    console.print(f"{machine.cpu}, {machine.cores} cores{f', {machine.gpu}' if machine.gpu else ''}, {machine.library}")
    stages = Table(box=SIMPLE_HEAD, title=f"Stages, {bench.images} images", title_justify="left")
    for name in ("stage", "images/s", "ms an image", "share"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    shares = (bench.decode_share, 1 - bench.decode_share)
    for stage, rate, share in zip(
        ("read and decode, all cores", f"inference, {bench.provider}"),
        (bench.decode_rate, bench.best.rate),
        shares,
        strict=True,
    ):
        stages.add_row(stage, f"{rate:.0f}", f"{1000 / rate:.2f}", f"{share:.0%}")
    how = "side by side" if bench.device.on_gpu else "on the same cores"
    stages.add_row(f"both, {how}", f"{bench.both_rate:.0f}", f"{1000 / bench.both_rate:.2f}", "")
    console.print(stages)
    console.print(_inference_table(bench))
    tuned = bench.tuned
    console.print(
        f"chosen: {tuned.batch} images a call, {tuned.threads} threads a call, {tuned.parallel} calls at the same time"
    )


def _inference_table(bench: Bench) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Inference, images/s (median)", title_justify="left")
    found = {(candidate.batch, _calls(candidate.session)): candidate for candidate in bench.candidates}
    columns = list(dict.fromkeys(calls for _, calls in found))
    table.add_column("images a call", justify="right")
    for calls in columns:
        table.add_column(calls, justify="right")
    for batch in sorted({batch for batch, _ in found}):
        row = [found[batch, calls] for calls in columns]
        table.add_row(str(batch), *(_cell(candidate.rate, candidate is bench.best) for candidate in row))
    return table


def _calls(session: Session) -> str:
    return f"{session.threads} threads x {session.parallel} calls"


def _cell(rate: float, best: bool) -> Text:
    return Text(f"{rate:.0f} *", "bold") if best else Text(f"{rate:.0f}" if rate else "-")
