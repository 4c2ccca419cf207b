"""A trace leads from a submit to the rows of its batches, and from a log line to its trace."""

import json
import subprocess
import sys

from support.image_fixtures import write_folder
from support.installation import Site
from support.otlp_collector import attributes_of, collecting
from support.processes import Worker, tagmill, wait_until


def test_a_batch_links_to_its_submit_and_its_log_lines_name_the_trace(site: Site) -> None:
    write_folder(site.folder / "shop", 4)
    with collecting() as collector:
        env = site.env | {
            "TAGMILL_TRACES": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with Worker(env, site.folder / "worker.log") as worker:
            tagmill("submit", str(site.folder / "shop"), "--model", "colors", "--batch-size", "2", "--wait", env=env)
            wait_until(lambda: len(collector.named("tag batch")) == 2, 60, "the traces of both batches")
            assert worker.stop() == 0
    (submit,) = collector.named("submit")
    assert attributes_of(submit) == {"tagmill.run": 1, "tagmill.batches": 2, "tagmill.repeated": False}
    batches = collector.named("tag batch")
    for batch in batches:
        assert [link.trace_id for link in batch.links] == [submit.trace_id]
        found = attributes_of(batch)
        assert (found["tagmill.run"], found["tagmill.model"], found["tagmill.tagged"]) == (1, "colors@1", 2)
        parts = [span for _, span in collector.spans if span.parent_span_id == batch.span_id]
        assert [span.name for span in parts] == ["read", "infer", "write"]
        assert batch.start_time_unix_nano <= parts[0].start_time_unix_nano < parts[-1].end_time_unix_nano
    lines = [json.loads(line) for line in worker.log.splitlines()]
    traces = {line["trace_id"] for line in lines if line.get("action") == "batch_tagged"}
    assert traces == {batch.trace_id.hex() for batch in batches}
    assert {service for service, _ in collector.spans} == {"tagmill-producer", "tagmill-worker"}


def test_nothing_of_opentelemetry_is_loaded_unless_it_is_asked_for() -> None:
    script = "import sys, worker.batch, producer.cli.submit; print([name for name in sys.modules if 'opentel' in name])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
