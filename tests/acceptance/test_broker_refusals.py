"""A Redis that refuses a login ends each command with 78 and one line; one that is down, with 75."""

from collections.abc import Iterator

import pytest
import redis
from support.image_fixtures import write_folder
from support.installation import Site, new_site
from support.processes import TAGMILL, Worker, logged_error, tagmill, wait_until
from support.services import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis with a password, a user who may do nothing, and one who may do everything."""
    with RedisServer(password="right") as server, redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "low", "on", ">low", "~*", "&*", "-@all", "+ping", "+hello", "+select")
        client.execute_command("ACL", "SETUSER", "app", "on", ">app", "~*", "&*", "+@all")
        client.execute_command("ACL", "SETUSER", "off", "off", ">off", "~*", "&*", "+@all")
        yield server


@pytest.fixture(scope="module")
def site(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("refusals")
    return new_site(folder, f"sqlite:///{folder}/tagmill.db", server.url)


@pytest.mark.parametrize(
    ("login", "database", "reason", "advice"),
    [
        (":wrong@", "0", "invalid username-password pair", "check user and password in TAGMILL_BROKER_URL"),
        ("", "0", "Authentication required", "check user and password in TAGMILL_BROKER_URL"),
        ("nobody:right@", "0", "invalid username-password pair", "check user and password in TAGMILL_BROKER_URL"),
        ("off:off@", "0", "user is disabled", "check user and password in TAGMILL_BROKER_URL"),
        (":right@", "99", "DB index is out of range", "correct the database number in TAGMILL_BROKER_URL"),
        ("low:low@", "0", "has no permissions to run", "give the user the rights in docs/operations/redis.md"),
    ],
    ids=lambda value: value if " " in value else "",
)
def test_a_server_that_refuses(
    server: RedisServer, site: Site, login: str, database: str, reason: str, advice: str
) -> None:
    env = site.env | {"TAGMILL_BROKER_URL": f"redis://{login}127.0.0.1:{server.port}/{database}"}
    line = logged_error(tagmill("worker", "start", env=env, expect=78).stderr)
    assert line.startswith("error: the broker refuses (")
    assert reason in line
    assert advice in line


def test_a_refused_submit_says_that_the_run_is_in_sql(server: RedisServer, site: Site) -> None:
    env = site.env | {"TAGMILL_BROKER_URL": f"redis://:wrong@127.0.0.1:{server.port}/0"}
    write_folder(site.folder / "shop", 2)
    line = tagmill("submit", site.folder / "shop", "--model", "colors", env=env, expect=78).stderr.splitlines()[-1]
    assert "check user and password" in line
    assert "run 1 is in SQL, do not submit it again" in line


def test_a_bare_worker_is_refused_too(server: RedisServer, site: Site) -> None:
    env = site.env | {"TAGMILL_BROKER_URL": f"redis://:wrong@127.0.0.1:{server.port}/0"}
    with Worker(env, site.folder / "worker.log", [TAGMILL, "celery", "worker", "-P", "threads"]) as worker:
        wait_until(lambda: worker.process.poll() is not None, 60, "the worker to end")
    assert worker.process.returncode == 78
    assert "error: the broker refuses (invalid username-password pair" in worker.log


@pytest.mark.parametrize("change", [("resetpass", ">other"), ("-brpop",)])
def test_a_worker_whose_user_loses_its_password_or_its_rights_ends_with_78(
    server: RedisServer, site: Site, change: tuple[str, ...]
) -> None:
    env = site.env | {"TAGMILL_BROKER_URL": f"redis://app:app@127.0.0.1:{server.port}/0"}
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">app", "~*", "&*", "+@all")
        with Worker(env, site.folder / "worker.log") as worker:
            worker.wait_ready()
            client.execute_command("ACL", "SETUSER", "app", *change)
            for found in client.client_list():
                if found["user"] == "app":
                    client.execute_command("CLIENT", "KILL", "ID", found["id"])
            wait_until(lambda: worker.process.poll() is not None, 60, "the worker to end")
    assert worker.process.returncode == 78
    assert '"action": "broker_refused"' in worker.log
    assert "Traceback" not in worker.log
