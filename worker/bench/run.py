"""Run `tagmill bench`: find images, measure, keep and print the choice."""

import json
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click
from rich.text import Text

from tagmill.cli.terminal.console import open_console
from tagmill.errors import InputError, NothingToDo
from tagmill.images.image import SUFFIXES
from tagmill.sample.catalog import write_catalog
from tagmill.settings import Settings
from worker.bench.display import show, to_json
from worker.bench.measure import Report, measure
from worker.inference.session_loader import gpu_options, tuned_settings_store
from worker.inference.tuned_settings import this_machine

#: images that are drawn, or taken from the folder
IMAGES = 64


def run_bench(settings: Settings, bundle: Path, data: Path | None, seconds: float, as_json: bool) -> None:
    """Measure, keep the choice, and print both. Raise what `measure` and `TunedSettingsStore.write` raise."""
    _require_writable(settings.cache_folder / "tuned")
    console = open_console(stderr=True)
    with (
        console.status("starting") as status,
        nullcontext(str(data)) if data else tempfile.TemporaryDirectory(prefix="tagmill-bench-") as folder,
    ):
        last_phase = ""

        def report(text: str) -> None:
            nonlocal last_phase
            status.update(Text(text))
            phase = text.partition(": ")[0]
            if phase != last_phase and not console.is_terminal:  # a log file cannot show a line that changes
                console.print(phase, soft_wrap=True)
            last_phase = phase

        report("drawing images" if data is None else f"looking for images in {data}")
        files = _find_images(data) if data else _draw_images(Path(folder), report)
        done = measure(bundle, settings.device, files, seconds, gpu_options(settings), report)
    machine = this_machine(done.device)
    if not as_json:
        show(open_console(), done, machine)  # before the choice is kept, so that it is shown even if the disk is full
    kept = tuned_settings_store(settings).write(done.sha256, machine, done.tuned)
    if as_json:
        click.echo(json.dumps(to_json(done, machine, kept)))
    else:
        click.echo(f"kept in {kept}: workers on this machine start with it")


def _require_writable(folder: Path) -> None:
    """Raise InputError if the folder cannot be written to, before anything is measured."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.access(place, os.F_OK))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be written to; set TAGMILL_CACHE_FOLDER to another folder")


def _find_images(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise NothingToDo(f"{folder}: no images; looked for {', '.join(sorted(SUFFIXES))}")
    return files[:: max(1, len(files) // IMAGES)][:IMAGES]


def _draw_images(folder: Path, report: Report) -> list[Path]:
    catalog = folder / "catalog"
    write_catalog(catalog, IMAGES, 7, 0, lambda drawn: report(f"drawing images: {drawn} of {IMAGES}"))
    return sorted(path for path in (catalog / "images").rglob("*") if path.is_file())
