"""`tagmill doctor` says what is wrong and what to do, whatever is down."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from support.installation import Site, new_site
from support.ledger import published_run
from support.processes import environment, tagmill, tagmill_json
from support.services import RedisServer

from tagmill.db.connection import connect
from tagmill.db.roles import Kind, grant_role
from tagmill.db.schema import batch
from tagmill.ledger.faults.workers import Fault, FaultReason, report_fault
from tagmill.ledger.fleet.workers import Identity, Work, WorkerState, report
from tagmill.registry.models import list_models
from tagmill.settings import Settings
from worker.doctor.examine import CHECKS, Planned, examine
from worker.doctor.finding import Finding, Level, Subject, ok
from worker.doctor.machine.mounts import file_system

#: runs a command as in an installation without extras
BASE = """
import sys
sys.modules |= dict.fromkeys(("onnxruntime", "cv2", "simplejpeg", "idna", "jinja2", "prometheus_client"))
from tagmill.cli.main import main
sys.argv[0] = "tagmill"
main()
"""
USERS = "user default on nopass ~* &* +@all\nuser few on >secret ~tagmill* &* -@all +@connection +info +llen +select\n"


def settings_of(site: Site, **others: object) -> Settings:
    given = {name.removeprefix("TAGMILL_").lower(): value for name, value in site.env.items() if "TAGMILL_" in name}
    return Settings(**given | others)  # type: ignore[arg-type]  # values are texts, as from the environment


def findings(settings: Settings, *names: str) -> dict[str, list[Finding]]:
    chosen = [planned for planned in CHECKS if planned.name in names]
    return dict(examine(Subject(settings), checks=chosen))


def said(found: list[Finding], level: Level) -> str:
    """Return all that was said at a level, with the advice."""
    return "\n".join(f"{one.what}; {one.advice}" for one in found if one.level is level)


def test_where_all_is_well_there_is_no_error(site: Site) -> None:
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    report(engine, Identity("a:1", "one@a", "tagmill", "cpu", "1.0"), WorkerState.READY)
    engine.dispose()
    found = tagmill_json("doctor", "--device", "cpu", env=site.env | {"TAGMILL_ALLOWED_ROOTS": str(site.folder)})
    assert found["counts"]["error"] == 0
    shown = {row["what"] for row in found["findings"]}
    assert {"colors@1: runs on CPUExecutionProvider, it has no golden samples", f"{site.folder}: can be read"} <= shown
    assert any(what.startswith("workers of other versions run: 1.0") for what in shown)


def test_it_runs_without_extras_while_everything_is_down(tmp_path: Path) -> None:
    down = {"database_url": "postgresql://u:p@127.0.0.1:1/x", "broker_url": "redis://127.0.0.1:1/0"}
    env = environment(**down, model_store=tmp_path / "none", allowed_roots=tmp_path / "no")
    env["TAGMILL_" + "LESE_SECONDS"] = "3"
    base = [sys.executable, "-P", "-c", BASE]
    done = subprocess.run(
        [*base, "doctor", "--json"], env=env, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 78, done.stderr
    rows = json.loads(done.stdout)["findings"]
    assert {row["check"] for row in rows if row["level"] == "error"} == {"database", "broker", "roots"}
    assert {row["check"] for row in rows if row["what"] == "not installed here"} == {"device", "bundles"}
    assert "LESE_SECONDS (did you mean TAGMILL_LEASE_SECONDS?)" in done.stdout
    assert "p@" not in done.stdout
    assert list(tmp_path.iterdir()) == []  # it creates nothing
    listed = subprocess.run([*base, "worker", "list"], env=env, capture_output=True, text=True, check=False)
    assert (listed.returncode, "the database does not answer" in listed.stderr) == (75, True)
    tagmill("doctor", env=environment(queue="a,b"), expect=78)


def test_what_is_missing_damaged_or_given_up_is_an_error_with_advice(site: Site) -> None:
    settings = settings_of(site, allowed_roots=str(site.folder / "empty"))
    (site.folder / "empty").mkdir()
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    masks, colors = list_models(engine)
    (site.folder / "models" / f"{masks.sha256}.onnx").write_bytes(b"damaged")
    run = published_run(engine, colors, images=6)
    with engine.begin() as connection:
        connection.execute(update(batch).where(batch.c.seq == 0).values(status="dead"))
        connection.execute(update(batch).where(batch.c.seq == 1).values(published_at=batch.c.published_at - 600))
    gpu = Identity("a:1", "gpu@a", "tagmill", "cuda:0", "1.0")
    report(engine, gpu, WorkerState.READY)
    report(engine, gpu, WorkerState.OUT, Work("CPUExecutionProvider", [], 0, 0, 0.0, None))
    report_fault(engine, gpu.worker, gpu.queue, Fault(FaultReason.FOLDER, "/catalog is empty; mount it"))
    engine.dispose()
    found = findings(settings, "roots", "model store", "workers", "runs")
    assert "empty: is empty; mount it" in said(found["roots"], Level.ERROR)
    assert f"{masks.title}: " in said(found["model store"], Level.ERROR)
    assert "gpu@a is out: /catalog is empty" in said(found["workers"], Level.ERROR)
    assert "runs on CPUExecutionProvider, not on cuda:0" in said(found["workers"], Level.ERROR)
    assert f"tagmill run retry {run}" in said(found["runs"], Level.ERROR)
    assert "1 batches wait, the first for 10 minutes, and no worker is ready" in said(found["runs"], Level.ERROR)


def test_a_redis_user_without_rights_and_a_redis_that_forgets_are_found(
    own_redis_server: Callable[..., RedisServer], sqlite_url: str, tmp_path: Path
) -> None:
    server = own_redis_server(users=USERS)
    limited = server.url.replace("redis://", "redis://few:secret@")
    (found,) = findings(Settings(broker_url=limited), "broker").values()
    assert "this user may not: LPUSH, RPUSH, " in said(found, Level.ERROR)
    assert "appendonly no" in said(found, Level.WARNING)
    (found,) = findings(Settings(broker_url=server.url), "broker").values()
    assert said(found, Level.ERROR) == ""
    assert "this user may do what workers and producers need" in said(found, Level.OK)
    down = Settings(broker_url="sentinel://:secret@127.0.0.1:1;127.0.0.1:2/0?master_name=shop")
    (found,) = findings(down, "broker").values()
    assert "Sentinel at 127.0.0.1:1, 127.0.0.1:2 does not answer" in said(found, Level.ERROR)
    assert "secret" not in said(found, Level.ERROR)
    site = new_site(tmp_path, sqlite_url, server.url)
    (found,) = findings(settings_of(site), "database").values()
    assert said(found, Level.ERROR) == ""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_role_without_rights_is_found(engine: Engine) -> None:
    with engine.begin() as connection:
        for role in ("doctor_worker", "doctor_nobody"):
            connection.exec_driver_sql(f"DROP ROLE IF EXISTS {role}")
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        grant_role(connection, Kind.WORKER, "doctor_worker")
        grant_role(connection, Kind.READER, "doctor_nobody")
        connection.exec_driver_sql("GRANT SELECT ON alembic_version TO doctor_nobody")
    try:
        urls = [engine.url.set(username=role) for role in ("doctor_worker", "doctor_nobody")]
        fit, unfit = (findings(Settings(database_url=str(url)), "database")["database"] for url in urls)
    finally:
        with engine.begin() as connection:
            for role in ("doctor_worker", "doctor_nobody"):
                connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert "the role doctor_worker has the rights of a worker" in said(fit, Level.OK)
    assert "the role doctor_nobody lacks rights of a" in said(unfit, Level.ERROR)


def test_a_check_that_hangs_or_fails_leaves_the_others_alone() -> None:
    def broken(subject: Subject) -> list[Finding]:
        raise ZeroDivisionError

    stuck = Planned("stuck", lambda subject: __import__("time").sleep(5) or [], 0.2)
    checks = [Planned("fine", lambda subject: [ok("well")], 1), Planned("broken", broken, 1), stuck]
    found = dict(examine(Subject(Settings()), checks=checks))
    assert found["fine"] == [ok("well")]
    assert "ZeroDivisionError" in found["broken"][0].what
    assert "no answer within 0 s" in found["stuck"][0].what


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /srv/my\\040shop rw shared:1 - nfs4 host:/ rw\n")
    assert file_system(Path("/srv/my shop/tags.db"), mounts) == "nfs4"
    assert file_system(Path("/srv/other.db"), mounts) == "ext4"
