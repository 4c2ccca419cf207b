"""Workers are listed from SQL and drained over it, with real processes."""

from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, tagmill, tagmill_json, wait_until

from tagmill.db.connection import connect
from tagmill.ledger.fleet.workers import Worker as Seen
from tagmill.ledger.fleet.workers import list_workers


def listed(site: Site) -> dict[str, Seen]:
    """Return the workers by the name before the host."""
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    found = {worker.name.partition("@")[0]: worker for worker in list_workers(engine)}
    engine.dispose()
    return found


def test_drained_workers_finish_their_batches_end_with_0_and_work_when_they_are_started_again(site: Site) -> None:
    write_folder(site.folder / "shop", 240)
    models = ("--model", "colors@1", "--model", "color-masks@1", "--batch-size", 4)
    with (
        Worker(site.env, site.folder / "one.log", name="one") as one,
        Worker.bare(site.env, site.folder / "two.log", "two") as two,
    ):
        one.wait_ready()
        two.wait_ready()
        site.submit(site.folder / "shop", *models)
        wait_until(lambda: site.count("SELECT count(*) FROM batch WHERE status = 'done'") > 6, 60, "the first batches")
        tagmill("worker", "drain", env=site.env, expect=2)
        tagmill("worker", "start", "--name", "", env=site.env, expect=2)
        assert "asked to drain: one@" in tagmill("worker", "drain", "one", env=site.env).stdout
        assert "drained: two@" in tagmill("worker", "drain", listed(site)["two"].name, "--wait", env=site.env).stdout
        assert one.process.wait(60) == two.process.wait(60) == 0
    assert "worker_draining" in one.log
    assert site.count("SELECT count(*) FROM batch WHERE status = 'running'") == 0
    assert site.count("SELECT max(attempts) FROM batch") == 1
    tagmill("worker", "drain", "one", env=site.env, expect=4)
    ended = {row["name"].partition("@")[0]: row for row in tagmill_json("worker", "list", "--all", env=site.env)}
    assert {name: row["state"] for name, row in ended.items()} == {"one": "stopped", "two": "stopped"}
    assert all(row["batches"] for row in ended.values())
    assert (ended["one"]["provider"], ended["one"]["models"]) == ("CPUExecutionProvider", ["color-masks@1", "colors@1"])
    with Worker(site.env, site.folder / "again.log", name="one"):
        site.wait_done(site.submit(site.folder / "shop", *models)["run"])
        wait_until(lambda: listed(site)["one"].batches, 60, "the new worker to say what it did")
        assert "ready" in tagmill("worker", "list", "--queue", "tagmill", env=site.env).stdout
