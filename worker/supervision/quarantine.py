"""Takes a suspected batch in a process of its own, where an image that ends its process ends no other batch."""

import json
import logging
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tagmill.errors import BundleError
from tagmill.ledger.leases import Claim
from tagmill.outcomes import ErrorCode
from tagmill.settings import Settings
from worker.inference.bundle_files import BundleFiles
from worker.pipeline.batch_image import BatchImage
from worker.supervision.process import ProcessEnd
from worker.supervision.quarantine_process import take_outcome

log = logging.getLogger(__name__)

#: what the exit code of a process says about the image that it had in work
_CODES: dict[int, ErrorCode] = {
    ProcessEnd.STUCK: ErrorCode.TIMED_OUT,
    ProcessEnd.OUT_OF_MEMORY: ErrorCode.OUT_OF_MEMORY,
}


class Quarantine:
    """Tags suspect batches, one at a time: each needs a second copy of the models in memory."""

    def __init__(self, settings: Settings, files: BundleFiles) -> None:
        self._settings = settings
        self._files = files
        self._lock = threading.Lock()

    def tag(self, claimed: Claim, images: list[BatchImage]) -> list[BatchImage]:
        """Tag the images of a claim that are not known. Raise BundleError if the models alone end the process."""
        wanted = [image for image in images if not image.unchanged]
        bundles = {sha256: self._files.path(sha256) for sha256 in claimed.models}
        log.warning("batch is suspected", extra={"action": "batch_quarantined", "batch": claimed.batch_id})
        with self._lock:
            # A batch that is innocent passes as it would have in the worker, call by call.
            with _Child(self._settings, bundles, claimed.roots) as child:
                done = not wanted or child.tag(wanted)
            if not done:
                self._one_by_one(claimed, wanted, bundles)
        return images

    def _one_by_one(self, claimed: Claim, images: Sequence[BatchImage], bundles: dict[str, Path]) -> None:
        """Tag one image after the other, with a new process after each death."""
        left = deque(images)
        while left:
            first = left[0]
            with _Child(self._settings, bundles, claimed.roots) as child:
                while left and child.tag([left[0]]):
                    left.popleft()
                # The damage of one image, or the kernel, may end the process at a later one. So only the first image of
                # a process is blamed; any other is the first one of the next process.
                if left and left[0] is first:
                    child.blame(left.popleft())


class _Child:
    """One process of `worker.supervision.quarantine_process`; `with` ends it."""

    def __init__(self, settings: Settings, bundles: dict[str, Path], roots: Sequence[str]) -> None:
        command = [sys.executable, "-m", "worker.supervision.quarantine_process"]
        # A session of its own: Ctrl-C is for the worker, which ends it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        setup = {
            "settings": settings.model_dump(mode="json"),
            "bundles": {sha256: str(path) for sha256, path in bundles.items()},
            "roots": list(roots),
        }
        answer = self._ask(setup)
        if answer is None or "error" in answer:
            reason = self._ending() if answer is None else answer["error"]
            self.__exit__(None, None, None)
            raise BundleError(f"a process of its own could not load the models: {reason}")

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
                pass  # it died with a question unread

    def tag(self, images: Sequence[BatchImage]) -> bool:
        """Tag these images; return False, with none of them changed, if they ended the process."""
        answer = self._ask([[image.position, image.uri] for image in images])
        if answer is None:
            return False
        for image, found in zip(images, answer, strict=True):
            take_outcome(image, found)
        return True

    def blame(self, image: BatchImage) -> None:
        """Fail the image that ended the process."""
        code = _CODES.get(self._process.wait(), ErrorCode.CRASHED_WORKER)
        log.error("poison image", extra={"action": "poison_found", "code": code, "position": image.position})
        image.fail(code, f"taken alone, it ended its process: {self._ending()}")

    def _ask(self, question: Any) -> Any:
        assert self._process.stdin is not None, "it is a pipe"
        assert self._process.stdout is not None, "it is a pipe"
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def _ending(self) -> str:
        code = self._process.wait()
        if code < 0:
            return signal.Signals(-code).name
        return ProcessEnd(code).name.lower() if code in set(ProcessEnd) else f"exit code {code}"
