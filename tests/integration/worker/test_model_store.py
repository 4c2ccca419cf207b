"""A worker whose model store is a bucket."""

import weakref
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.bundles import write_classifier
from support.image_fixtures import write_image
from support.s3_server import S3Server
from support.shop import Shop

from tagmill.broker.message import BatchMessage
from tagmill.registry import download
from tagmill.registry.open_store import open_store
from tagmill.stores.object_store import open_bucket
from worker.batch import BatchFailedError
from worker.health import health
from worker.inference import session_cache
from worker.inference.session_cache import SessionCache


def test_a_batch_waits_for_a_model_store_that_is_down_and_loses_no_attempt(
    engine: Engine, tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PAUSES", ())
    monkeypatch.setattr("tagmill.stores.whole_file.RETRIES", 0)
    monkeypatch.setattr(health, "OUTAGE_SECONDS", 0.0)
    s3_server.put("models", {})
    (tmp_path / "shop").mkdir()
    write_image(tmp_path / "shop" / "1.png", "red")
    ended: list[str] = []
    bundle = write_classifier(tmp_path / "colors.onnx")
    where = {"model_store": "s3://models/", "cache_folder": tmp_path / "cache"}
    shop = Shop(engine, tmp_path / "shop", bundle, lambda: ended.append("unfit"), **where)
    try:
        with monkeypatch.context() as down:
            down.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            open_bucket.cache_clear()
            with pytest.raises(BatchFailedError, match="the model store does not answer"):
                shop.tag()
        open_bucket.cache_clear()
        assert shop.rows("SELECT status, attempts, crashes FROM batch") == [("queued", 0, 0)]
        ((run, batch),) = shop.rows("SELECT run_id, id FROM batch")
        shop.batches.process(BatchMessage(int(str(run)), int(str(batch))))
        assert shop.rows("SELECT status, attempts FROM batch") == [("done", 1)]
        assert ended == []
        assert shop.rows("SELECT count(*) FROM run_fault") == [(0,)]
    finally:
        shop.batches.close()


def test_a_session_that_no_batch_asked_for_is_dropped(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    shop = Shop(engine, tmp_path / "shop", write_classifier(tmp_path / "colors.onnx"))
    other = shop.register(write_classifier(tmp_path / "other.onnx", sharpness=10.0))
    sessions = SessionCache(shop.settings, open_store(shop.settings))
    first = weakref.ref(sessions.get(shop.model.sha256))
    sessions.get(other.sha256)
    assert sessions.loaded() == {shop.model.sha256, other.sha256}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_cache, "IDLE_SECONDS", 0.0)
        sessions.get(other.sha256)
    assert sessions.loaded() == {other.sha256}
    assert first() is None
    shop.batches.close()
