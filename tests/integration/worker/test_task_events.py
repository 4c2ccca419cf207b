"""What Celery's events, and so Flower, and the log say of a batch that was tagged and of one that failed."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, text
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, tagmill_json, wait_until, waiting

from tagmill.broker.app import make_app
from tagmill.settings import Settings

MODELS = ("--model", "colors", "--model", "color-masks")


@contextmanager
def task_events(broker_url: str) -> Iterator[list[dict[str, Any]]]:
    """Collect the events of tasks in the block."""
    seen: list[dict[str, Any]] = []
    app = make_app(Settings(broker_url=broker_url))
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        # Without a timeout: it would end the subscription for a moment, in which an event is lost.
        thread = threading.Thread(target=lambda: receiver.capture(wakeup=False))
        thread.start()
        yield seen
        receiver.should_stop = True
        thread.join()


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def lines(worker: Worker, action: str) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in worker.log.splitlines() if line.startswith("{"))
    return [line for line in found if line.get("action") == action]


def test_a_tagged_batch_is_a_result_and_a_failed_attempt_is_a_failed_task(site: Site) -> None:
    write_folder(site.folder / "shop", 5)
    (site.folder / "shop" / "broken.jpg").write_bytes(b"not an image")
    settings = Settings(broker_url=site.env["TAGMILL_BROKER_URL"])
    with (
        Worker.bare(site.env | {"TAGMILL_MAX_ATTEMPTS": "1"}, site.folder / "worker.log", "one", "-E") as worker,
        task_events(settings.broker_url) as events,
    ):
        worker.wait_ready()
        wait_until(lambda: events, 60, "the events to come")  # the worker sends a heartbeat every two seconds
        tagged = site.submit(site.folder / "shop", *MODELS, "--wait", expect=3)["run"]
        wait_until(lambda: of_type(events, "task-succeeded"), 60, "the task to succeed")
        (batch,) = site.values(f"SELECT id FROM batch WHERE run_id = {tagged}")
        what = {"run": tagged, "batch": batch, "model": "color-masks@1, colors@1", "images": 6}
        assert of_type(events, "task-succeeded")[0]["result"] == repr(
            what | {"tagged": 5, "failed": {"not_an_image": 1}}
        )
        (line,) = lines(worker, "batch_tagged")
        assert {name: line[name] for name in what} == what
        assert line["failed"] == 1

        engine = create_engine(site.env["TAGMILL_DATABASE_URL"])
        with engine.begin() as connection:  # a mistake of an administrator: no batch can be written
            connection.execute(text("ALTER TABLE batch_outcome ADD CHECK (batch_id < 0) NOT VALID"))
        engine.dispose()
        failed = site.submit(site.folder / "shop", *MODELS, "--wait", expect=3)
        wait_until(lambda: of_type(events, "task-failed"), 60, "the task to fail")
        assert failed["failures"] == {"batch_dead": 6}
        (event,) = of_type(events, "task-failed")
        assert f"BatchFailedError('run {failed['run']}, batch " in event["exception"]
        assert "color-masks@1, colors@1: new row for relation" in event["exception"]
        (line,) = lines(worker, "batch_failed")
        assert (line["run"], line["model"], line["level"]) == (failed["run"], "color-masks@1, colors@1", "error")
        assert worker.log.count("Traceback") == 1 + worker.log.count("direct cause")
        assert waiting(make_app(settings), settings.queue) == 0
        assert len(of_type(events, "task-succeeded")) == 1
    (errors,) = tagmill_json("run", "status", failed["run"], env=site.env)["batch_errors"]
    assert errors.pop("reason").startswith("IntegrityError: new row for relation")
    assert errors == {"status": "dead", "batches": 1, "images": 6}
