"""Whether work waits that a worker could take, on both databases."""

from sqlalchemy import Engine, text
from support.ledger import QUEUE, batches, new_run, published_run, take

from tagmill.ledger.fleet.waiting import waits_since
from tagmill.ledger.runs.control import pause_run
from tagmill.registry.models import Model


def test_work_waits_if_it_may_be_claimed_and_was_published_for_long(engine: Engine, model: Model) -> None:
    new_run(engine, model)  # not published
    pause_run(engine, published_run(engine, model))
    run = published_run(engine, model, 6)
    assert not waits_since(engine, QUEUE, 60.0)
    with engine.begin() as connection:
        connection.execute(text("UPDATE batch SET published_at = published_at - 100"))
    assert waits_since(engine, QUEUE, 60.0)
    assert not waits_since(engine, "another", 60.0)
    first, second = batches(engine, run)
    assert take(engine, first)
    with engine.begin() as connection:  # given back, and not due yet
        connection.execute(text(f"UPDATE batch SET not_before = published_at + 900 WHERE id = {second}"))
    assert not waits_since(engine, QUEUE, 60.0)
