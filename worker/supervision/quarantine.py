"""Takes a suspected batch in a process of its own, where an image that ends its process ends no other batch."""

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tagmill.errors import BundleError
from tagmill.ledger.leases import Claim
from tagmill.outcomes import ErrorCode
from tagmill.records import BatchResult, Outcome, PendingImage
from tagmill.settings import Settings
from worker.inference.session_cache import BundleFiles
from worker.supervision.process import ProcessEnd
from worker.supervision.quarantine_process import result_from_json

log = logging.getLogger(__name__)

#: what the exit code of a process says about the image that it had in work
_CODES: dict[int, ErrorCode] = {
    ProcessEnd.STUCK: ErrorCode.TIMED_OUT,
    ProcessEnd.OUT_OF_MEMORY: ErrorCode.OUT_OF_MEMORY,
}


class Quarantine:
    """Tags suspects, one batch at a time: each has a second copy of the models in memory."""

    def __init__(self, settings: Settings, files: BundleFiles) -> None:
        self._settings = settings
        self._files = files
        self._turn = threading.Lock()

    def tag(self, claimed: Claim) -> BatchResult:
        """Return the outcome of every image. Raises BundleError where the models alone end the process."""
        bundles = {sha256: self._files.path(sha256) for sha256 in claimed.models}
        log.warning("batch is suspected", extra={"action": "batch_quarantined", "batch": claimed.batch_id})
        with self._turn:
            # An innocent batch goes through as it would have in the worker, call by call.
            with _Child(self._settings, bundles, claimed.roots) as child:
                whole = child.tag(claimed.images)
            if whole is not None:
                return whole
            return self._one_by_one(claimed, bundles)

    def _one_by_one(self, claimed: Claim, bundles: dict[str, Path]) -> BatchResult:
        """Return the outcomes that processes came to which took one image after the other, each at least one."""
        parts: list[BatchResult] = []
        left = list(claimed.images)
        while left:
            first = left[0]
            with _Child(self._settings, bundles, claimed.roots) as child:
                while left and (part := child.tag(left[:1])) is not None:
                    parts.append(part)
                    del left[0]
                # What one image damages may end the process at another, and so may the kernel: to blame is only the
                # image that nothing came before. Any other is the first of the next process.
                if left and left[0] is first:
                    parts.append(BatchResult([child.last_outcome(left.pop(0))], [], []))
        return BatchResult(
            [outcome for part in parts for outcome in part.outcomes],
            [image for part in parts for image in part.images],
            [row for part in parts for row in part.inferences],
        )


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

    def tag(self, images: Sequence[PendingImage]) -> BatchResult | None:
        """Return the result of these images, or None where they ended the process."""
        answer = self._ask([[image.position, image.uri] for image in images])
        return None if answer is None else result_from_json(answer)

    def last_outcome(self, image: PendingImage) -> Outcome:
        """Return the outcome of the image that ended the process."""
        code = _CODES.get(self._process.wait(), ErrorCode.CRASHED_WORKER)
        log.error("poison image", extra={"action": "poison_found", "code": code, "position": image.position})
        return Outcome(image.position, None, code, f"taken alone, it ended its process: {self._ending()}")

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
