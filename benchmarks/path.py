"""The path of one image through the worker's batch: which modules of Tagmill it passes, and how often it turns back.

`python -m benchmarks.path` tags one JPEG from a folder with the starter classifier, on SQLite and in this process,
and prints the modules that are entered, in order. A change is a call into another module than the last call was in; a
return is a change to a module that was left before. The last line counts both. It ends with exit code 1 if they exceed
the limits. What counts are calls that Tagmill's modules make (`sys.setprofile`), in the threads that work on the image:
not what a library calls back (SQLAlchemy's events, context managers), nor comprehensions, which are functions in Python
3.11 only. One image is tagged before it counts, so that what is loaded on first use does not.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select, text

from tagmill.broker.app import make_app
from tagmill.broker.message import TAG_BATCH, BatchMessage
from tagmill.bundles.metadata import sha256_of
from tagmill.bundles.starter import starter_bundles
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.db.schema import batch
from tagmill.ledger.runs.create import create_run
from tagmill.outcomes import ImageStatus
from tagmill.records import Entry
from tagmill.registry.models import register
from tagmill.settings import Settings
from worker.batch import BatchProcessor, ProcessHooks
from worker.connections.availability import Services
from worker.inference.session_cache import NamedBundles
from worker.pipeline.tagger import build_tagger
from worker.task import register as register_task

#: most changes of module, and most returns to a module that was left before
MOST_CHANGES, MOST_RETURNS = 40, 15

#: the time of the images, in Unix seconds
AHEAD = time.time() + 3600

_ROOMS = ("tagmill", "worker", "producer")
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
_SERVING = frozenset({"heartbeat", "watchdog", "reaper"})


@dataclass(frozen=True)
class ImagePath:
    """The modules that calls were made in, in order, without repeats."""

    modules: tuple[str, ...]

    @property
    def changes(self) -> int:
        """Calls into another module than the last call was in."""
        return len(self.modules) - 1

    @property
    def returns(self) -> int:
        """Changes to a module that was left before."""
        return len(self.modules) - len(set(self.modules))


class Recorder:
    """Notes the module of every call of Tagmill's own code while it is active, in all threads started after it."""

    def __init__(self) -> None:
        self._called: list[str] = []
        self._active = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Profile this thread and those that are started inside the block."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what is called inside the block."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def path(self) -> ImagePath:
        """Return the modules in the order of their calls."""
        called = self._called
        return ImagePath(tuple(name for at, name in enumerate(called) if at == 0 or called[at - 1] != name))

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self._active or threading.current_thread().name in _SERVING:
            return
        inside = frame.f_globals.get("__name__") != __name__ and frame.f_code.co_name not in _COMPREHENSIONS
        if inside and _is_ours(frame) and _is_ours(frame.f_back):
            self._called.append(str(frame.f_globals["__name__"]))


def _is_ours(frame: FrameType | None) -> bool:
    if frame is None or not frame.f_code.co_filename.endswith(".py"):
        return False
    name = str(frame.f_globals.get("__name__", ""))
    return name == __name__ or name.partition(".")[0] in _ROOMS


def record() -> ImagePath:
    """Tag two images, each a batch of its own, and return the path of the second."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder, recorder.installed():
        for name, shade in (("first", 60), ("second", 180)):
            pixels = np.random.default_rng(shade).integers(0, shade, (400, 300, 3), dtype=np.uint8)
            path = Path(folder) / f"{name}.jpg"
            Image.fromarray(pixels).save(path, quality=90)
            # Dated ahead, it counts as just changed, and is not remembered, however slow this machine is.
            os.utime(path, (AHEAD, AHEAD))
        _tag(Path(folder), recorder)
    return recorder.path()


def _tag(folder: Path, recorder: Recorder) -> None:
    settings = Settings(device="cpu", database_url=f"sqlite:///{folder / 'tagmill.db'}", queue="path")
    engine = connect(settings.database_url)
    upgrade(engine)
    bundle = starter_bundles()[0]
    tagger = build_tagger(settings, NamedBundles({sha256_of(bundle): bundle}))
    session = tagger.sessions.get(sha256_of(bundle))
    model = register(engine, session.spec, session.sha256)
    entries = [Entry(path.name, str(path)) for path in sorted(folder.glob("*.jpg"))]
    run = create_run(engine, str(folder), entries, [model], [folder], 1, settings.queue)
    with engine.connect() as connection:
        batches = connection.execute(select(batch.c.id).order_by(batch.c.seq)).scalars().all()
    app = make_app(settings)
    hooks = ProcessHooks(Services(), lambda reason: None, supervised=False)
    with closing(BatchProcessor(settings, tagger, hooks)) as processor:
        register_task(app, lambda: processor)
        tag_batch = app.tasks[TAG_BATCH].run
        tag_batch(BatchMessage(run, batches[0]).to_json())
        message = BatchMessage(run, batches[1]).to_json()
        with recorder.recording():
            tag_batch(message)
    with engine.connect() as connection:
        statuses = set(connection.execute(text("SELECT status FROM run_image")).scalars())
    engine.dispose()
    assert statuses == {ImageStatus.TAGGED}, f"an image was not tagged: {statuses}"


def main() -> int:
    """Print the path; return 1 if it changes or returns more often than it may."""
    found = record()
    seen: set[str] = set()
    for number, module in enumerate(found.modules):
        print(f"{number:3} {module}{' (again)' if module in seen else ''}")
        seen.add(module)
    print(f"{found.changes} changes of module, {found.returns} returns to a module left before")
    return 1 if found.changes > MOST_CHANGES or found.returns > MOST_RETURNS else 0


if __name__ == "__main__":
    sys.exit(main())
