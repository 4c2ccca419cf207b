"""The way of `tagmill bench` from its options to the choice that is kept."""

import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click
from rich.console import Console

from tagmill.errors import NothingToDo
from tagmill.sample.catalog import write_catalog
from tagmill.settings import Settings
from worker.bench import Say, measure
from worker.bench_display import show, to_json
from worker.loading import card_options, tuned_files
from worker.tuning import this_machine

#: pictures that are drawn, or taken of the folder
PICTURES = 64
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def run_bench(settings: Settings, bundle: Path, data: Path | None, seconds: float, as_json: bool) -> None:
    """Measure, keep the choice, and print both. Raises what `measure` and `TunedFiles.write` raise."""
    console = Console(stderr=True)
    with (
        console.status("beginning") as status,
        nullcontext(str(data)) if data else tempfile.TemporaryDirectory(prefix="tagmill-bench-") as folder,
    ):
        said = ""

        def say(words: str) -> None:
            nonlocal said
            status.update(words)
            phase = words.partition(": ")[0]
            if phase != said and not console.is_terminal:  # a log file has no line that changes
                console.print(phase, soft_wrap=True)
            said = phase

        say("drawing pictures" if data is None else f"looking for pictures in {data}")
        files = _found(data) if data else _drawn(Path(folder), say)
        done = measure(bundle, settings.device, files, seconds, card_options(settings), say)
    machine = this_machine(done.device)
    kept = tuned_files(settings).write(done.sha256, machine, done.tuned)
    if as_json:
        click.echo(json.dumps(to_json(done, machine, kept)))
    else:
        show(Console(), done, machine, kept)


def _found(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise NothingToDo(f"{folder}: no pictures; looked for {', '.join(sorted(_SUFFIXES))}")
    return files[:: max(1, len(files) // PICTURES)][:PICTURES]


def _drawn(folder: Path, say: Say) -> list[Path]:
    catalog = folder / "catalog"
    write_catalog(catalog, PICTURES, 7, 0, lambda drawn: say(f"drawing pictures: {drawn} of {PICTURES}"))
    return sorted(path for path in (catalog / "images").rglob("*") if path.is_file())
