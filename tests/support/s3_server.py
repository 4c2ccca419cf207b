"""A real S3 server, moto's, in a process of its own. It ends with the tests, whatever happens."""

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.services import Server, free_port

#: credentials that the server accepts, as it accepts all
KEY_ID, KEY, REGION = "AKIATESTTESTTESTTEST", "s3cret-of-tests", "us-east-1"


class S3Server(Server):
    """An S3 server on a free port of 127.0.0.1, empty after each start.

    `delay` is in seconds for each request. What `refuse` names is answered with a status, not by moto.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__()
        self.port = free_port()
        self._delay = delay

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which obstore reads from this server."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def put(self, bucket: str, objects: Mapping[str, bytes], **headers: str) -> None:
        """Create a bucket if there is none, and write objects into it."""
        client = self._client()
        client.create_bucket(Bucket=bucket)
        for key, data in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=data, **headers)

    def refuse(self, path: str, status: int, code: str, times: int = 1) -> None:
        """Answer the next requests for `/bucket/key` with a status and an error code."""
        self._control("refuse", f"{times} {status} {code} {path}")

    def requests(self) -> list[str]:
        """Return method, path and status of each request since the last call."""
        return self._control("requests", "").splitlines()

    def meet(self, count: int) -> None:
        """Have the next requests wait until so many are under way."""
        self._control("meet", str(count))

    def connections(self) -> int:
        """Return how many connections were accepted so far, without those of this class."""
        return int(self._control("connections", ""))

    def empty(self) -> None:
        """Remove every bucket, and forget what is to be refused."""
        self._control("empty", "")

    def _control(self, what: str, body: str) -> str:
        with urllib.request.urlopen(f"{self.url}/tests-control/{what}", body.encode(), timeout=60) as answer:
            return str(answer.read().decode())

    def _client(self) -> Any:
        import boto3
        from botocore.handlers import add_expect_header

        login = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": KEY}
        client = boto3.client("s3", endpoint_url=self.url, region_name=REGION, **login)
        # The server would wait for the body of an empty object.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        return client

    def _command(self) -> list[str]:
        return [sys.executable, "-P", str(Path(__file__).with_name("s3_process.py")), str(self.port), str(self._delay)]

    def _answers(self) -> bool:
        try:
            self._control("requests", "")
        except OSError:
            return False
        return True
