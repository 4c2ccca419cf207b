"""Measure `tagmill report`: the size of its page, the time to build it, and the time until it can be used in Chromium.

`PYTHONPATH=tests python -m benchmarks.producer.report --images 10000` draws a sample catalog, tags it with the starter
bundles on SQLite, and writes its report as a user does, with the truth of the catalog. The page can be used once it
filters, and the images in the window are drawn. With `--folder` the catalog and its tags are kept there, and used
again.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL
from support.browser import Browser
from support.processes import environment

from benchmarks.producer.results import measure
from benchmarks.support.machine import tell
from tagmill.bundles.starter import starter_bundles
from tagmill.machine import cpu_name, usable_cores

#: loads of the page in a fresh browser
LOADS = 3
WINDOWS = {"1,280 pixels": (1280, 900), "390 pixels": (390, 844)}
#: resolves once the filters work, and all images in the window are decoded
_USABLE = """
(async () => {
  document.getElementById('images').scrollIntoView({behavior: 'instant'});
  do await new Promise(done => requestAnimationFrame(done)); while (!document.querySelector('.cell img'));
  await Promise.all([...document.querySelectorAll('.cell img')].map(image => image.decode()));
  return document.documentElement.dataset.ready;
})()
"""
_FILTER = """
(async () => {
  const began = performance.now(), search = document.getElementById('search');
  search.value = '7';
  search.dispatchEvent(new Event('input', {bubbles: true}));
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - began;
})()
"""


@contextmanager
def folder_of(name: str | None) -> Iterator[Path]:
    """Yield the named folder, or one that is removed at the end."""
    if name:
        path = Path(name)
        path.mkdir(parents=True, exist_ok=True)
        yield path
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)


def prepare(folder: Path, images: int) -> dict[str, str]:
    """Draw and tag the catalog, unless that is done; return the environment of its database."""
    env = environment(database_url=f"sqlite:///{folder}/tags.db")
    tell("drawing the catalog")
    measure(env, "sample", folder / "catalog", "--images", images)
    tell("tagging it")
    bundles = [word for path in starter_bundles() for word in ("--bundle", path)]
    measure(env, "tag", folder / "catalog" / "manifest.csv", "--db", f"sqlite:///{folder}/tags.db", *bundles)
    return env


def load(page: Path, size: tuple[int, int]) -> tuple[float, float]:
    """Return the seconds until the page can be used, and those that a search takes, in a fresh browser."""
    with Browser() as browser:
        browser.window(*size, phone=size[0] < 500)
        began = time.perf_counter()
        loaded = browser.open(page)
        assert browser.evaluate(_USABLE) == "yes"
        usable = time.perf_counter() - began
        assert not loaded.problems
        return usable, browser.evaluate(_FILTER) / 1000


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="images of the run")
    parser.add_argument("--folder", help="keep the catalog and its tags here")
    options = parser.parse_args()
    with folder_of(options.folder) as folder:
        env = prepare(folder, options.images)
        page = folder / "report.html"
        words = ("report", 1, "-o", page, "--truth", folder / "catalog" / "truth.csv")
        seconds, cpu, memory = measure(env, *words)
        print(
            f"{cpu_name()}, {usable_cores()} cores; Python {platform.python_version()}, NumPy {np.__version__}, Pillow "
            f"{PIL.__version__}; {options.images:,} drawn images, median of {LOADS} loads"
        )
        print("| images | page, MB | to build, s | CPU s | peak memory, MiB | window | usable after, s | a search, s |")
        print("|---|---|---|---|---|---|---|---|")
        for name, size in WINDOWS.items():
            loads = [load(page, size) for _ in range(LOADS)]
            usable, search = (statistics.median(values) for values in zip(*loads, strict=True))
            built = f"{page.stat().st_size / 1e6:.1f} | {seconds:.1f} | {cpu:.1f} | {memory}"
            print(f"| {options.images:,} | {built} | {name} | {usable:.2f} | {search:.3f} |", flush=True)


if __name__ == "__main__":
    main()
