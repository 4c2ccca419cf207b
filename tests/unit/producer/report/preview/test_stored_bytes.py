"""Previews of images in object stores and file systems, with the credentials of the environment."""

import pytest
from support.s3_server import S3Server

from producer.report.preview.stored_bytes import read_stored
from producer.report.preview.unreadable import UnreadableError


def test_an_object_is_read_up_to_the_limit_and_a_missing_one_is_said(s3_server: S3Server) -> None:
    s3_server.put("report", {"a b.jpg": b"0123456789"})
    assert read_stored("s3://report/a b.jpg", 10, 5.0) == b"0123456789"
    assert len(read_stored("s3://report/a b.jpg", 5, 5.0)) > 5
    with pytest.raises(UnreadableError, match="no such object"):
        read_stored("s3://report/none.jpg", 10, 5.0)


def test_a_location_that_cannot_be_read_is_said_without_the_location() -> None:
    with pytest.raises(UnreadableError, match=r"^its location holds a login"):
        read_stored("s3://me:secret@report/a.jpg", 10, 5.0)
    with pytest.raises(UnreadableError) as refused:
        read_stored("ftp://127.0.0.1:1/a.jpg", 10, 5.0)
    assert "127.0.0.1" not in str(refused.value)
