"""Tag a suspect batch in a separate process, so that an image that kills its process affects no other batch."""

import json
import logging
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tagmill.errors import BundleError
from tagmill.ledger.batches.leases import Claim
from tagmill.logs.fields import batch_fields, current_fields
from tagmill.outcomes import ErrorCode
from tagmill.settings import Settings
from worker.inference.session_cache import BundleFiles
from worker.pipeline.batch_image import BatchImage
from worker.sources.terms import Terms
from worker.spending import counting_children
from worker.supervision.process import ProcessEnd
from worker.supervision.quarantine_process import take_outcome

log = logging.getLogger(__name__)

#: exit code of a quarantine process -> error code of the image that ended it
_CODES: dict[int, ErrorCode] = {
    ProcessEnd.STUCK: ErrorCode.TIMED_OUT,
    ProcessEnd.OUT_OF_MEMORY: ErrorCode.OUT_OF_MEMORY,
}


class Quarantine:
    """Tags suspect batches, one at a time, because each needs a second copy of the models in memory."""

    def __init__(self, settings: Settings, files: BundleFiles) -> None:
        self._settings = settings
        self._files = files
        self._lock = threading.Lock()

    def tag(self, claimed: Claim, images: list[BatchImage], terms: Terms) -> list[BatchImage]:
        """Tag the images of a claim that are not known, and count and limit their requests.

        Raise BundleError if the models alone end the process.
        """
        wanted = [image for image in images if not image.unchanged]
        if not wanted:
            return images
        bundles = {sha256: self._files.path(sha256) for sha256 in claimed.models}
        log.warning("batch is suspect", extra={"action": "batch_quarantined", "batch": claimed.batch_id})
        with self._lock, counting_children():
            # First all images at once: a batch without a bad image passes as it would in the worker.
            with _QuarantineProcess(self._settings, bundles, claimed.roots, terms) as child:
                done = child.tag(wanted)
            if not done:
                self._one_by_one(claimed, wanted, bundles, terms)
        return images

    def _one_by_one(self, claimed: Claim, images: Sequence[BatchImage], bundles: dict[str, Path], terms: Terms) -> None:
        """Tag the images one by one, with a new process after each that dies."""
        left = deque(images)
        while left:
            first = left[0]
            with _QuarantineProcess(self._settings, bundles, claimed.roots, terms) as child:
                while left and child.tag([left[0]]):
                    left.popleft()
                # An earlier image, or the kernel, may be why the process died. So only the first image of a process is
                # blamed; any other becomes the first image of the next process.
                if left and left[0] is first:
                    child.blame(left.popleft())


class _QuarantineProcess:
    """A running `worker.supervision.quarantine_process`; `with` ends it."""

    def __init__(self, settings: Settings, bundles: dict[str, Path], roots: Sequence[str], terms: Terms) -> None:
        self._traffic = terms.traffic
        command = [sys.executable, "-P", "-m", "worker.supervision.quarantine_process"]
        # A new session: Ctrl-C reaches only the worker, which ends this process.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        setup = {
            "settings": settings.model_dump(mode="json"),
            "bundles": {sha256: str(path) for sha256, path in bundles.items()},
            "roots": list(roots),
            "worker": current_fields().get("worker"),
            "batch": batch_fields(),
            "limits": None if terms.limits is None else asdict(terms.limits),
        }
        answer = self._ask(setup)
        if answer is None or "error" in answer:
            reason = self._exit_reason() if answer is None else answer["error"]
            self.__exit__(None, None, None)
            raise BundleError(f"the quarantine process could not load the models: {reason}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None, "both are pipes"
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # it died before it read a request

    def tag(self, images: Sequence[BatchImage]) -> bool:
        """Tag these images. Return False and leave them unchanged if the process died."""
        answer = self._ask([[image.position, image.uri] for image in images])
        if answer is None:
            return False
        for image, found in zip(images, answer["images"], strict=True):
            take_outcome(image, found)
        self._traffic.add(*answer["traffic"])
        return True

    def blame(self, image: BatchImage) -> None:
        """Fail the image that ended the process."""
        code = _CODES.get(self._process.wait(), ErrorCode.CRASHED_WORKER)
        log.error(
            "an image killed its process", extra={"action": "poison_found", "code": code, "position": image.position}
        )
        image.fail(code, f"taken alone, it ended its process: {self._exit_reason()}")

    def _ask(self, request: Any) -> Any:
        """Return the answer to a request; None if the process died."""
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def _exit_reason(self) -> str:
        code = self._process.wait()
        if code < 0:
            return signal.Signals(-code).name
        return ProcessEnd(code).name.lower() if code in set(ProcessEnd) else f"exit code {code}"
