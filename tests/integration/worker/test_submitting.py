"""A submit keeps the queue short if it is asked to, and what Ctrl-C leaves of it is nothing, or a run to resume."""

import signal
import subprocess

import pytest
import redis as redis_client
from celery import Celery
from click.exceptions import Exit
from sqlalchemy import Connection, Engine, event, update
from support.installation import Site
from support.ledger import QUEUE, new_model, new_run
from support.processes import TAGMILL, tagmill, wait_until
from support.services import ExternalRedis, RedisServer

from producer import publish as publishing
from producer.cli.interruption import interruptible
from producer.publish import publish_run
from tagmill.broker.app import make_app
from tagmill.db.schema import run
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.batches.reaper import abandoned_runs
from tagmill.ledger.runs.control import pause_run, take_over_publishing
from tagmill.ledger.runs.create import cancel_run
from tagmill.ledger.runs.progress import run_progress
from tagmill.ledger.runs.publishing import PUBLISH_SECONDS
from tagmill.registry.models import Model
from tagmill.settings import Settings

Redis = RedisServer | ExternalRedis
LIST = f"{QUEUE}:6"
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'idle in transaction' AND query LIKE 'INSERT INTO run%'"
)


@pytest.fixture
def app(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setattr(publishing, "ROOM_SECONDS", 0.001)
    return make_app(Settings(broker_url=redis_server.url))


@pytest.fixture
def model(engine: Engine) -> Model:
    return new_model(engine)


def test_a_submit_queues_batches_only_while_fewer_wait_than_it_was_told(
    app: Celery, engine: Engine, model: Model, redis_server: Redis
) -> None:
    run_id = new_run(engine, model, images=11, batch_size=1)
    seen: list[tuple[int, int | None]] = []
    late: list[list[int]] = []

    def work(sent: int, waiting: int | None) -> None:
        """Take two messages whenever the queue is full, after a time in which a dead producer would be late."""
        seen.append((sent, waiting))
        if waiting is not None:
            late.append(abandoned_runs(engine, QUEUE))
            with engine.begin() as connection:
                connection.execute(update(run).values(publish_until=run.c.publish_until - PUBLISH_SECONDS + 1))
            client.rpop(LIST, 2)

    with redis_client.Redis.from_url(redis_server.url) as client:
        assert publish_run(app, engine, run_id, 4, work) == 11
        assert client.llen(LIST) <= 4
    assert [sent for sent, waiting in seen if waiting is None] == [4, 6, 8, 10, 11]
    assert {waiting for _, waiting in seen} == {None, 4}
    assert late == [[]] * 4


def test_the_rest_of_an_interrupted_submit_with_a_limit_waits_for_resume(
    app: Celery, engine: Engine, model: Model
) -> None:
    run_id = new_run(engine, model, images=5, batch_size=1)

    def interrupt(sent: int, waiting: int | None) -> None:
        if waiting is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_run(app, engine, run_id, 2, interrupt)
    assert abandoned_runs(engine, QUEUE) == []
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.unpublished) == ("queued", 3)
    take_over_publishing(engine, run_id)
    assert run_progress(engine, run_id).unpublished == 0
    assert publish_run(app, engine, run_id) == 3
    with pytest.raises(NothingToDo, match="is queued already; follow it with: tagmill run watch"):
        take_over_publishing(engine, run_id)


def test_a_submit_that_waits_for_room_ends_if_its_run_is_paused(app: Celery, engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=5, batch_size=1)
    sent = publish_run(app, engine, run_id, 2, lambda sent, waiting: waiting is not None and pause_run(engine, run_id))
    assert sent == 2
    with pytest.raises(NothingToDo, match="is paused; go on with: tagmill run resume"):
        take_over_publishing(engine, run_id)
    cancel_run(engine, run_id)
    with pytest.raises(NothingToDo, match="was cancelled"):
        take_over_publishing(engine, run_id)
    with pytest.raises(InputError, match="no run 99"):
        take_over_publishing(engine, 99)


def test_a_run_is_known_though_ctrl_c_came_while_it_was_committed(
    engine: Engine, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(connection: Connection) -> None:
        """Call what Ctrl-C would call. A real signal, should it come a moment later, ends the process of the tests."""
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)
        handler(signal.SIGINT, None)

    def submitted() -> None:
        with interruptible(engine, None) as submission:
            event.listen(engine, "commit", press)
            run_id = new_run(engine, model)
            event.remove(engine, "commit", press)
            assert run_progress(engine, run_id).images == 3
            submission.written(run_id)

    with pytest.raises(Exit) as ended:
        submitted()
    assert ended.value.exit_code == 130
    assert "run 1 is in SQL, and workers queue the rest of it; to do it now: tagmill submit --resume 1" in (
        capsys.readouterr().err
    )


def submitting(site: Site, *words: str) -> "subprocess.Popen[str]":
    command = [TAGMILL, "submit", *words, "--model", "colors", "--batch-size", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=site.env, cwd=site.folder, text=True, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_submit_leaves_nothing_or_a_run_to_resume(
    site: Site, redis_server: Redis, how: signal.Signals
) -> None:
    manifest = "".join(f"k{number},/shop/{number}.jpg\n" for number in range(5))
    (site.folder / "shop.csv").write_text(f"image_key,uri\n{manifest}")

    def ended(process: "subprocess.Popen[str]") -> str:
        process.send_signal(how)
        assert process.wait(120) == 130
        assert process.stderr is not None
        *_, line = process.stderr.read().splitlines()
        process.communicate()
        return line

    writing = submitting(site, "-")
    assert writing.stdin is not None
    writing.stdin.write(f"image_key,uri\n{manifest}")
    writing.stdin.flush()
    wait_until(lambda: site.count(IN_TRANSACTION), 60, "the submit to write")
    assert ended(writing) == "interrupted; nothing was queued; it is safe to run the command again"
    assert site.count("SELECT count(*) FROM run") == 0
    with redis_client.Redis.from_url(redis_server.url) as client:
        publishing = submitting(site, "shop.csv", "--max-queued", "2")
        wait_until(lambda: client.llen(LIST) == 2, 60, "two batches to be queued")
        line, run_id = ended(publishing), site.count("SELECT id FROM run")
        resume = f"tagmill submit --resume {run_id}"
        assert line == f"interrupted; run {run_id} is queued in part; queue the rest with: {resume} --max-queued 2"
        assert f"go on: {resume}" in tagmill("run", "status", run_id, env=site.env).stdout
        assert "5 images in 3 batches" in tagmill("submit", "--resume", run_id, env=site.env).stdout
        assert client.llen(LIST) == 5
    done = tagmill("submit", "--resume", run_id, env=site.env, expect=4)
    assert done.stderr == f"error: run {run_id} is queued already; follow it with: tagmill run watch {run_id}\n"
