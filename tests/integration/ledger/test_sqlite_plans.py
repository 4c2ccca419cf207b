"""SQLite finds what belongs to a page of results, to a batch or to a retry by index: it reads no table as a whole."""

from typing import Any

import pytest
from sqlalchemy import Engine, event
from support.catalog import new_version, submit, work
from support.ledger import QUEUE

from producer.output.read.runs import read_results
from tagmill.ledger.runs.create import requeue_images

#: tables that grow with the number of images
GROWING = {
    *("entry", "batch", "batch_outcome", "image_failure", "batch_failure", "image_content"),
    *("result", "further_label", "result_mask", "known_file", "known_url", "catalog_entry"),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_growing_table_is_read_as_a_whole(engine: Engine) -> None:
    scans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE")) and not many:
            plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            scans.extend(
                f"{step}: {statement}" for *_, step in plan if step.startswith("SCAN") and step.split()[1] in GROWING
            )

    event.listen(engine, "before_cursor_execute", explain)
    model = new_version(engine, "shirts")
    run = submit(engine, [model], ["a", "b", "c", "d"], batch_size=2)
    work(engine, run, {"a": "1", "b": None, "c": "2", "d": None})
    assert len(list(read_results(engine, run.id, [model]))) == 4
    assert requeue_images(engine, run.id, [], QUEUE) == 2
    assert not scans
