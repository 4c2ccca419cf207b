"""Celery with one task per image, as a first attempt is often written: `celery -A benchmarks.peers.naive worker`.

It reads the environment variables NAIVE_BROKER, NAIVE_BUNDLE and NAIVE_ENGINE (ort or torch).
"""

import os
from typing import Any

import redis
from celery import Celery

from benchmarks.peers.plain import best, input_side, new_session, read_pillow

app = Celery("naive", broker=os.environ.get("NAIVE_BROKER", "redis://127.0.0.1/1"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)
#: Redis key that counts the finished images
DONE = "naive-done"
_loaded: dict[str, Any] = {}


@app.task  # type: ignore[untyped-decorator]  # celery ships no types
def tag(file: str) -> None:
    """Tag one image and count it."""
    if not _loaded:
        _load(os.environ["NAIVE_BUNDLE"])
    _loaded["infer"](read_pillow(file, _loaded["side"])[None])
    _loaded["redis"].incr(DONE)


def _load(bundle: str) -> None:
    session = new_session(bundle)
    _loaded.update(side=input_side(session), redis=redis.Redis.from_url(os.environ["NAIVE_BROKER"]))
    _loaded["infer"] = lambda images: best(session, images)
    if os.environ["NAIVE_ENGINE"] == "torch":
        import torch

        from benchmarks.peers.loader import torch_network

        network = torch_network(bundle, 1)
        _loaded["infer"] = lambda images: network(torch.from_numpy(images.copy()))
