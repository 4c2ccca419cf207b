"""A device that fails while a worker runs: no image is blamed, and the process ends."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, text
from support.image_fixtures import write_folder

from producer.sources.open import open_sources
from tagmill.broker.message import BatchMessage
from tagmill.bundles.metadata import sha256_of
from tagmill.bundles.starter import starter_bundles
from tagmill.errors import ConfigurationError
from tagmill.ledger.runs.create import create_run
from tagmill.registry.models import register
from tagmill.registry.store import ModelStore
from tagmill.settings import Settings
from worker.batch import BatchFailedError, BatchProcessor, ProcessHooks
from worker.connections.availability import Services, StoppedError
from worker.inference.call_tracker import CallTracker
from worker.inference.session import Session
from worker.pipeline.tagger import build_tagger
from worker.supervision.watchdog import RecycleReason

ERROR = "CUDA failure 700: an illegal memory access was encountered"


class Shop:
    """Images, the starter classifier, and a batch processor in this process whose device can be broken."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        (folder / "shop").mkdir()
        write_folder(folder / "shop", 5)
        self.engine = engine
        self.recycled: list[RecycleReason] = []
        self.ended = 0
        store, (bundle, _) = ModelStore(folder / "models"), starter_bundles()
        store.add(bundle, sha256_of(bundle))
        url = engine.url.render_as_string(hide_password=False)
        settings = Settings(database_url=url, model_store=folder / "models")
        tagger = build_tagger(settings, store)
        self.session = tagger.sessions.get(sha256_of(bundle))
        model = register(engine, self.session.spec, self.session.sha256)
        self.run = create_run(engine, "test", open_sources([str(folder / "shop")]), [model], [folder], 64, "tagmill")
        self.batches = BatchProcessor(
            settings, tagger, ProcessHooks(Services(), self.recycled.append, supervised=False, unfit=self.unfit)
        )

    def unfit(self) -> None:
        """Count how often the worker was taken out."""
        self.ended += 1

    def tag(self, breaks: Callable[[np.ndarray], bool]) -> None:
        """Tag the batch with a device that fails on the images for which `breaks` returns True."""
        run = self.session._backend.run

        def fail(names: list[str], images: np.ndarray, calls: CallTracker) -> list[np.ndarray]:
            if breaks(images):
                raise RuntimeError(ERROR)
            return run(names, images, calls)

        self.session._backend.run = fail  # type: ignore[method-assign]
        self.batches.process(BatchMessage(self.run, 1))
        self.batches.close()

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]


def test_a_batch_on_a_broken_device_is_released_whole_and_the_process_is_recycled(
    engine: Engine, tmp_path: Path
) -> None:
    shop = Shop(engine, tmp_path)
    error = f"^run {shop.run}, batch 1, starter-classifier@1: {shop.session.provider} no longer works: "
    with pytest.raises(BatchFailedError, match=error):
        shop.tag(lambda images: True)
    shop.batches.close()
    reason = f"DeviceLostError: {shop.session.provider} no longer works: {ERROR}"
    assert shop.rows("SELECT status, attempts - crashes, error FROM batch") == [("queued", 0, reason)]
    assert shop.rows("SELECT status, count(*) FROM run_image GROUP BY status") == [("pending", 5)]
    assert shop.recycled == [RecycleReason.DEVICE]
    assert shop.ended == 0  # the next process checks the device before it takes a batch


def test_if_the_device_still_works_the_images_fail(engine: Engine, tmp_path: Path) -> None:
    shop = Shop(engine, tmp_path)
    shop.tag(lambda images: not np.array_equal(images, shop.session.sample))
    assert shop.rows("SELECT status FROM batch") == [("done",)]
    assert shop.rows("SELECT error_code, count(*) FROM run_image GROUP BY error_code") == [("inference_failed", 5)]
    assert shop.recycled == []


@pytest.mark.parametrize(
    ("error", "fault", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "system", "No space left on device; free what"),
        (OSError(errno.EMFILE, "Too many open files"), "system", "Too many open files; free what"),
        (RuntimeError("can't start new thread"), "system", "can't start new thread; free what"),
        (MemoryError(), "memory", "no memory is left"),
        (ConfigurationError("device cuda:0: is not active"), "device", "is not active"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_no_image_is_to_blame_for_takes_the_worker_out_and_costs_no_attempt(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, fault: str, said: str
) -> None:
    shop = Shop(engine, tmp_path)

    def fail(sha256: str, name: str) -> Session:
        raise error

    monkeypatch.setattr(shop.batches.tagger.sessions, "get", fail)
    with pytest.raises(BatchFailedError):
        shop.batches.process(BatchMessage(shop.run, 1))
    with pytest.raises(StoppedError):  # it takes no further batch
        shop.batches.process(BatchMessage(shop.run, 1))
    shop.batches.close()
    assert shop.rows("SELECT status, attempts - crashes FROM batch") == [("queued", 0)]
    assert shop.rows("SELECT status, count(*) FROM run_image GROUP BY status") == [("pending", 5)]
    ((found, detail),) = shop.rows("SELECT reason, detail FROM worker_fault")
    assert found == fault
    assert said in str(detail)
    assert shop.ended == 1
