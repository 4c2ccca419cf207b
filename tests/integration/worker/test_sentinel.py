"""Redis behind Sentinel: failovers in the middle of a run, and what is said when there is no master."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.sentinel import MasterNotFoundError
from support.documents import redis_users_in
from support.image_fixtures import write_folder
from support.installation import new_site
from support.ledger import new_model, new_run
from support.processes import Worker, tagmill, wait_until, waiting
from support.redis_tls import RedisTls
from support.sentinel import ReplicatedRedis

from producer.publish import publish_run
from tagmill.broker.app import make_app
from tagmill.broker.message_loss import recover_messages
from tagmill.broker.publish import open_channel, require_login
from tagmill.broker.redis_client import open_redis
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import BrokerRefusedError
from tagmill.fetch_options import HostLimits
from tagmill.settings import Settings
from worker.sources.limits.grants import Ask
from worker.sources.limits.redis_grants import RedisGrants

ROOT = Path(__file__).parents[3]
IMAGES = 240


@pytest.fixture(scope="module")
def replicated() -> Iterator[ReplicatedRedis]:
    with ReplicatedRedis(password="a b;c/d", sentinel_password="s@p") as servers:
        yield servers


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedRedis]:
    """Servers with TLS alone, and the users of the guides."""
    redis, sentinels = (
        redis_users_in((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))
        for name in ("operations/redis", "high-availability")
    )
    with ReplicatedRedis(
        password="ADMIN_PASSWORD",
        users=redis,
        sentinel_password="ADMIN_PASSWORD",
        sentinel_users=sentinels,
        tls=RedisTls.issue(tmp_path_factory.mktemp("tls")),
    ) as servers:
        yield servers


def limited(servers: ReplicatedRedis) -> str:
    """Return the URL with the users of the guides."""
    return servers.url_of(("tagmill-worker", "WORKER_PASSWORD"), ("tagmill-client", "SENTINEL_PASSWORD"))


def test_a_failover_in_the_middle_of_a_run_loses_nothing_with_tls_and_few_rights(
    encrypted: ReplicatedRedis, postgres_url: str, tmp_path: Path
) -> None:
    site = new_site(tmp_path, postgres_url, limited(encrypted))
    write_folder(site.folder / "shop", IMAGES)
    with Worker(site.env, site.folder / "worker.log") as worker:
        worker.wait_ready()
        run = site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4)["run"]
        wait_until(lambda: worker.log.count("batch_tagged") >= 5, 60, "the worker to be at work")
        with encrypted.failover():
            wait_until(lambda: "broker_down" in worker.log, 60, "the worker to notice")
        site.wait_done(run)
        site.wait_done(site.submit(site.folder / "shop", "--model", "colors")["run"])
        found = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
        states = [line["action"] for line in found if str(line.get("action")).startswith("broker_")]
        assert (states[0], states[-1]) == ("broker_down", "broker_back")
        assert "Traceback" not in worker.log
        asked = ("--timeout", 60, "--destination", f"worker@{socket.gethostname()}")
        assert "pong" in tagmill("celery", "inspect", "ping", *asked, env=site.env).stdout
        assert worker.stop() == 0
    assert site.count("SELECT count(*) FROM result") == IMAGES
    assert site.count("SELECT count(*) FROM run_image WHERE status = 'tagged'") == 2 * IMAGES


def test_messages_that_the_promoted_replica_lacks_are_published_again(
    replicated: ReplicatedRedis, sqlite_url: str
) -> None:
    engine = connect(sqlite_url)
    upgrade(engine)
    app = make_app(Settings(broker_url=replicated.url))
    grants = RedisGrants(replicated.url, "tagmill")
    asked = [Ask("shop.example", HostLimits(2), 0, 5, 0)]
    assert grants.ask(asked)[0].slots == 2
    run = new_run(engine, new_model(engine), images=9, batch_size=3)
    with open_channel(app) as channel:
        recover_messages(app, channel, engine, "tagmill")
    replica = replicated.replica
    replicated.cut_replica()
    publish_run(app, engine, run)
    assert waiting(app, "tagmill") == 3
    with replicated.failover():
        os.kill(replica.pid, signal.SIGCONT)
    assert waiting(app, "tagmill") == 0
    with open_channel(app) as channel:
        assert recover_messages(app, channel, engine, "tagmill") == 3
        assert recover_messages(app, channel, engine, "tagmill") == 0
    assert waiting(app, "tagmill") == 3
    assert grants.ask(asked)[0].slots == 2
    engine.dispose()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("master_name=tagmill", "master_name=other", "know no master other\\); correct"),
        ("s%40p", "no", "a sentinel refuses: .*; check sentinel_password"),
        ("a%20b", "no", "check user and password"),
        ("/0?", "/99?", "correct the database number"),
    ],
)
def test_what_waiting_cannot_mend_is_a_refusal(replicated: ReplicatedRedis, right: str, wrong: str, said: str) -> None:
    assert right in replicated.url
    with pytest.raises(BrokerRefusedError, match=said):
        require_login(Settings(broker_url=replicated.url.replace(right, wrong)))


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [("127.0.0.1", "localhost", "certificate is not valid for 'localhost'"), ("authority", "none", "No such file")],
)
def test_a_certificate_that_cannot_be_checked_is_a_refusal(
    encrypted: ReplicatedRedis, right: str, wrong: str, said: str
) -> None:
    url = limited(encrypted)
    assert open_redis(url, 5.0).ping()
    with pytest.raises(BrokerRefusedError, match=f"{said}.*; correct ssl_ca_certs"):
        require_login(Settings(broker_url=url.replace(right, wrong)))


def test_sentinels_that_are_down_are_an_outage() -> None:
    nobody = "sentinel://127.0.0.1:1;127.0.0.1:2/0?master_name=tagmill"
    require_login(Settings(broker_url=nobody))
    with pytest.raises(MasterNotFoundError, match=r"no sentinel answers: .*:1\. .*; .*:2\. "):
        open_redis(nobody, 1.0).ping()
