"""Every line that a worker writes is one JSON object, from the first to the last."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker

Start = Callable[[dict[str, str], Path], Worker]


@pytest.mark.parametrize("start", [Worker, Worker.bare], ids=["supervised", "plain"])
def test_every_line_of_a_worker_is_json(site: Site, start: Start) -> None:
    write_folder(site.folder / "shop", 4)
    with start(site.env, site.folder / "worker.log") as worker:
        assert site.submit(site.folder / "shop", "--model", "colors", "--wait")["tagged"] == 4
        worker.wait_ready()
        assert worker.stop() == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert {"time", "level", "host", "logger", "event"} <= set(lines[0])
    assert {line["worker"].partition("@")[0] for line in lines} == {"worker"}
    (tagged,) = [line for line in lines if line.get("action") == "batch_tagged"]
    assert (tagged["run"], tagged["model"]) == (1, "colors@1")
    assert any("shutdown" in line["event"] for line in lines)
    assert any("superuser" in line["event"] for line in lines) == (os.geteuid() == 0)
    assert not any("Task " in line["event"] for line in lines)  # one line for each batch, and it is Tagmill's
