"""`tagmill submit` takes locations in object stores, and prefixes that workers may read."""

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import select
from support.s3_server import S3Server

from producer.cli.submit import submit
from tagmill.db.connection import connect
from tagmill.db.schema import run


@pytest.mark.usefixtures("registered")
def test_a_prefix_of_a_bucket_is_submitted_with_what_workers_may_read(
    s3_server: S3Server, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.put("shop", {"in/1.jpg": b"picture", "in/note.txt": b"x"})
    monkeypatch.setattr("producer.cli.submit.publish_run", lambda *_: 1)
    options = ["--model", "colors", "--allow-root", "s3://other/2026"]
    done = CliRunner().invoke(submit, ["s3://shop/in/*.jpg", *options], standalone_mode=False)
    assert "1 images in 1 batches" in done.stdout, done.exception
    with connect(sqlite_url).connect() as connection:
        source, parameters = connection.execute(select(run.c.source, run.c.parameters)).one()
    assert (source, parameters["roots"]) == ("s3://shop/in/*.jpg", ["s3://shop/in/", "s3://other/2026"])


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("s3://shop/a/../b/", "holds a part `.` or `..`."),
        ("sftp://anna:s3cret@host/", "holds a login; put credentials into the environment instead."),
        ("/no/such/folder", "does not exist."),
    ],
)
def test_a_root_that_workers_cannot_read_is_one_line(root: str, message: str) -> None:
    refused = CliRunner().invoke(submit, ["shop", "--dry-run", "--allow-root", root], standalone_mode=False).exception
    assert isinstance(refused, click.BadParameter)
    assert refused.message.endswith(message)
    assert "s3cret" not in refused.message
