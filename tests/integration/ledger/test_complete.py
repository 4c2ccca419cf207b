"""Complete batches, on SQLite and PostgreSQL: whose results count, what is written, and what is then known."""

import threading
import time
from dataclasses import replace

from sqlalchemy import Engine, select, text
from support.ledger import SHA, batches, count, digest, new_run, result_for, take

from producer.output.read.models import run_models
from producer.output.read.runs import read_results
from tagmill.db.schema import batch, batch_outcome, catalog_entry, image_content, image_failure, result_mask
from tagmill.db.schema import result as result_table
from tagmill.ledger.batches import leases
from tagmill.ledger.complete import complete
from tagmill.ledger.known_results import known_urls, unchanged_files
from tagmill.ledger.runs.progress import run_progress
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, ImageRow, InferenceRow, Outcome, SeenFile, SeenUrl, Spent
from tagmill.registry.models import Model


def labels_in_sql(engine: Engine) -> int:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM result_label WHERE label_id IS NOT NULL"))
        return int(found.scalar_one())


def test_results_outcomes_and_done_are_written_together(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    claimed = take(engine, batches(engine, run_id)[0])
    assert claimed is not None
    result = result_for(claimed)
    outcomes = [*result.outcomes[:2], Outcome(2, error_code=ErrorCode.TRUNCATED, error_detail="row 3")]
    assert complete(engine, claimed, replace(result, outcomes=outcomes), "worker")
    progress = run_progress(engine, run_id)
    assert (progress.state, progress.tagged, progress.failed) == ("done", 2, 1)
    assert progress.failures == {"truncated": 1}
    assert progress.batches == {"queued": 0, "running": 0, "done": 1, "dead": 0, "cancelled": 0}
    first, _, third = read_results(engine, run_id, run_models(engine, run_id))
    assert first.labels == {"shirts": [("red", 0.9), ("other", 0.1)]}
    assert first.masks["shirts"][0].box == (0.0, 0.0, 4.0, 4.0)
    assert (third.status, third.error_code, third.error_detail, third.labels) == ("failed", "truncated", "row 3", {})


def test_a_worker_that_lost_its_lease_writes_nothing(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    slow = take(engine, batch_id, "slow", lease=0.01)
    assert slow is not None
    time.sleep(0.05)
    quick = take(engine, batch_id, "quick")
    assert quick is not None
    assert quick.attempts == 2
    assert not complete(engine, slow, result_for(slow, SHA[1]), "slow")
    written = (image_content, result_table, result_mask, batch_outcome, catalog_entry)
    assert [count(engine, table) for table in written] == [0] * 5
    assert complete(engine, quick, result_for(quick), "quick")
    assert not complete(engine, quick, result_for(quick), "quick")
    assert [count(engine, table) for table in written] == [1, 1, 1, 1, 3]
    assert labels_in_sql(engine) == 2


def test_the_first_result_for_the_same_bytes_is_kept(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    for batch_id, answer in zip(batches(engine, run_id), ("red", "blue"), strict=True):
        claimed = take(engine, batch_id, answer)
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed, answer=answer), "worker")
    assert [found.labels["shirts"][0][0] for found in read_results(engine, run_id, [model])] == ["red", "red"]
    assert count(engine, result_table) == 1


def test_a_result_counts_for_the_batch_that_wrote_it_first(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    claims = [take(engine, batch_id, f"worker-{batch_id}") for batch_id in batches(engine, run_id)]
    for claimed in claims:
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed), "worker")
    assert run_progress(engine, run_id).inferences == count(engine, result_table) == 1


def test_batches_that_share_images_complete_in_parallel_without_deadlock(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=16, batch_size=1)
    shas = [digest(number) for number in range(40)]
    failures: list[Exception] = []

    def finish(number: int, batch_id: int) -> None:
        claimed = take(engine, batch_id, f"worker-{number}")
        assert claimed is not None
        mine = shas if number % 2 else shas[::-1]
        rows = [InferenceRow(sha, model.sha256, "CPU", (("red", 1.0),), ()) for sha in mine]
        result = BatchResult([Outcome(number, sha256=shas[0])], [ImageRow(sha, 1, 1, "PNG", 1) for sha in mine], rows)
        try:
            assert complete(engine, claimed, result, "worker")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=finish, args=entry) for entry in enumerate(batches(engine, run_id))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (count(engine, result_table), labels_in_sql(engine)) == (40, 40)
    assert run_progress(engine, run_id).state == "done"


def test_characters_that_sql_refuses_in_a_reason_do_not_fail_the_batch(engine: Engine, model: Model) -> None:
    (batch_id,) = batches(engine, new_run(engine, model))
    claimed = take(engine, batch_id)
    assert claimed is not None
    leases.release(engine, claimed, "quotes \0 and \udc80", delay_seconds=0)
    claimed = take(engine, batch_id)
    assert claimed is not None
    bad = [Outcome(entry.position, None, ErrorCode.TRUNCATED, "ends in \0\udc80") for entry in claimed.images]
    assert complete(engine, claimed, BatchResult(bad, [], []), "w")
    with engine.connect() as connection:
        assert set(connection.execute(select(image_failure.c.error_detail)).scalars()) == {r"ends in \0\udc80"}


def test_a_file_is_unchanged_if_every_model_has_a_result_for_its_bytes(engine: Engine, model: Model) -> None:
    claimed = take(engine, batches(engine, new_run(engine, model))[0])
    assert claimed is not None
    shirt, copy, new = (f"{number:032x}" for number in range(3))
    files = [SeenFile(shirt, SHA[0]), SeenFile(copy, SHA[0])]
    assert complete(engine, claimed, replace(result_for(claimed), files=files), "worker")
    asked = [shirt, copy, new]
    assert unchanged_files(engine, asked, claimed.models) == {shirt: SHA[0], copy: SHA[0]}
    assert unchanged_files(engine, asked, [*claimed.models, SHA[1]]) == {}
    assert unchanged_files(engine, [new], claimed.models) == {}


def test_urls_are_recognized_by_the_newest_validators_if_each_model_has_a_result(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    first, second = (number[:32] for number in (digest("first"), digest("second")))
    old = [SeenUrl(first, SHA[0], '"1"', "Mon, 30 Nov 2020 20:24:39 GMT"), SeenUrl(second, SHA[0], 'W/"2"')]
    new = [SeenUrl(first, SHA[1], '"3"')]
    for batch_id, sha, urls in zip(batches(engine, run_id), SHA, (old, new), strict=False):
        claimed = take(engine, batch_id, sha)
        assert claimed is not None
        assert complete(engine, claimed, replace(result_for(claimed, sha), urls=urls), "worker")
    asked = [first, second, digest("third")[:32]]
    assert sorted(known_urls(engine, asked, [model.sha256]), key=str) == sorted(
        [(new[0], True), (old[1], True)], key=str
    )
    assert [known for _, known in known_urls(engine, asked, [model.sha256, SHA[1]])] == [False, False]


def test_what_a_batch_took_is_written_with_its_results(engine: Engine, model: Model) -> None:
    claimed = take(engine, batches(engine, new_run(engine, model))[0])
    assert claimed is not None
    assert complete(engine, claimed, replace(result_for(claimed), spent=Spent(7, 3, 2**40, 1.5, 0.25)), "worker")
    columns = (batch.c.requests, batch.c.not_modified, batch.c.bytes_fetched, batch.c.cpu_seconds, batch.c.gpu_seconds)
    with engine.connect() as connection:
        assert connection.execute(select(*columns)).all() == [(7, 3, 2**40, 1.5, 0.25)]


def test_every_code_is_stored_and_shown_by_the_views(engine: Engine, model: Model) -> None:
    codes = list(ErrorCode)
    claimed = take(engine, batches(engine, new_run(engine, model, images=len(codes), batch_size=len(codes)))[0])
    assert claimed is not None
    outcomes = [
        Outcome(entry.position, error_code=code, error_detail=f"of {code}")
        for entry, code in zip(claimed.images, codes, strict=True)
    ]
    assert complete(engine, claimed, BatchResult(outcomes, [], []), "worker")
    assert run_progress(engine, claimed.run_id).failures == dict.fromkeys(map(str, codes), 1)
    with engine.connect() as connection:
        shown = connection.exec_driver_sql("SELECT error_code, error_detail FROM run_image ORDER BY position").all()
    assert [tuple(row) for row in shown] == [(str(code), f"of {code}") for code in codes]
