"""Run shadows and canaries beside the models of a run. Nothing that goes wrong with one fails an image or a batch."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor

from tagmill.errors import first_line
from tagmill.ledger.trials import Trial
from tagmill.outcomes import ErrorCode
from tagmill.records import CanaryRow
from tagmill.registry.rollout.running import RolloutKind
from worker.inference.session import Session
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.infer import infer_images
from worker.sources.validators import Validators

log = logging.getLogger(__name__)

#: seconds for which a bundle that failed is not tried again
RETRY_SECONDS = 60.0

#: returns the (image sha256, model sha256) pairs that have a result, for image and model sha256
KnownResults = Callable[[tuple[str, ...], Iterable[str]], Collection[tuple[str, str]]]


class TrialSessions:
    """The sessions of the shadows and canaries of one process, and those of them that failed."""

    def __init__(self, get: Callable[[str, str], Session]) -> None:
        """`get` returns the session of a sha256 that is registered as NAME@VERSION."""
        self._get = get
        #: sha256 -> until when it is not tried again, in monotonic seconds
        self._failed: dict[str, float] = {}
        self._told: set[str] = set()

    def get(self, trial: Trial) -> Session | None:
        """Return the session of a bundle; None if it cannot be loaded, or failed a short time ago."""
        sha256 = trial.rollout.sha256
        if self._failed.get(sha256, 0.0) > time.monotonic():
            return None
        try:
            return self._get(sha256, trial.rollout.title)
        except Exception as error:  # those of inference libraries have no common base class
            self.skip(trial, first_line(error))
            return None

    def skip(self, trial: Trial, reason: str) -> None:
        """Leave a bundle out for a while, and say so."""
        self._failed[trial.rollout.sha256] = time.monotonic() + RETRY_SECONDS
        self.tell(trial, reason)

    def tell(self, trial: Trial, reason: str) -> None:
        """Log that a bundle failed, once in the life of this process."""
        found = trial.rollout
        if found.sha256 not in self._told:
            self._told.add(found.sha256)
            fields = {"action": f"{found.kind.value}_failed", "model": found.title, "reason": reason}
            log.error("the %s failed; batches go on without it", found.kind.value, extra=fields)


class BatchTrials:
    """The shadows and canaries of one batch. Its methods are called in their order, between the stages of the batch."""

    def __init__(self, trials: Sequence[Trial], sessions: TrialSessions, known_inferences: KnownResults) -> None:
        self._trials = trials
        self._sessions = sessions
        self._known_inferences = known_inferences
        self._models = tuple(trial.rollout.sha256 for trial in trials)
        self._asked: set[str] = set()
        self._known: set[tuple[str, str]] = set()
        #: sha256 of the files that are read again, by image
        self._kept: dict[BatchImage, str] = {}

    def read_again(self, images: Sequence[BatchImage]) -> None:
        """Have unchanged files and URLs of a share be read whose result is missing."""
        seen = {image: sha256 for image in images if (sha256 := _known_sha256(image)) is not None}
        for image in self._lacking(seen):
            if image.unchanged:
                self._kept[image] = seen[image]
                image.sha256, image.unchanged = None, False
            image.known = Validators()

    def keep_unread(self, images: Sequence[BatchImage]) -> None:
        """Have files that could not be read again count as unchanged, as without the trial."""
        for image in images:
            if image in self._kept and image.code is not None:
                image.sha256, image.unchanged, image.code, image.detail = self._kept[image], True, None, None

    def add(self, images: Sequence[BatchImage]) -> None:
        """Set which sessions are tried on each fetched image, for it or an image with the same bytes."""
        fetched = {image: image.sha256 for image in images if image.sha256 is not None and not image.unchanged}
        for image, sessions in self._lacking(fetched).items():
            first = image.twin or image
            first.tried = [*first.tried, *(session for session in sessions if session not in first.tried)]

    def infer(self, images: Sequence[BatchImage], pool: Executor | None = None) -> None:
        """Run the decoded images through the sessions that are tried on them, and add the results to their answers."""
        for trial in self._trials:
            sha256 = trial.rollout.sha256
            chosen = {image: session for image in images for session in image.tried if session.sha256 == sha256}
            wanted = [image for image in chosen if image.facts is not None and image.code is None]
            if not wanted:
                continue
            session = chosen[wanted[0]]
            stand_ins = [_stand_in(image, session) for image in wanted]
            try:
                infer_images(stand_ins, [session], pool)
            except Exception as error:  # of a broken device, too: the models of the run find that themselves
                self._sessions.skip(trial, first_line(error))
                continue
            failed = [image for image in stand_ins if image.code is not None]
            if len(failed) == len(stand_ins) or any(image.code is ErrorCode.TIMED_OUT for image in failed):
                self._sessions.skip(trial, str(failed[0].detail))
            elif failed:
                self._sessions.tell(trial, str(failed[0].detail))
            for image, stand_in in zip(wanted, stand_ins, strict=True):
                image.answers.extend(stand_in.answers)

    def shown(self, images: Sequence[BatchImage]) -> list[CanaryRow]:
        """Return the entries that show a canary: those in its share whose image has its result."""
        rows = []
        answered = {(row.image_sha256, row.model_sha256) for image in images for row in image.answers}
        canaries = [trial for trial in self._trials if trial.rollout.kind is RolloutKind.CANARY]
        for trial in canaries:
            found = {image: _outcome(image) for image in images if image.position in trial.points}
            self._look_up(sha256 for sha256 in found.values() if sha256 is not None)
            for image, sha256 in found.items():
                pair = (sha256, trial.rollout.sha256)
                if pair in answered or pair in self._known:
                    rows.append(CanaryRow(image.position, trial.rollout.model_id, trial.points[image.position]))
        return rows

    def _lacking(self, images: dict[BatchImage, str]) -> dict[BatchImage, list[Session]]:
        """Return the sessions that lack a result for each image of their share; `images` have these sha256."""
        found: dict[BatchImage, list[Session]] = {}
        in_share = {position for trial in self._trials for position in trial.points}
        self._look_up(sha256 for image, sha256 in images.items() if image.position in in_share)
        for trial in self._trials:
            lacking = [
                image
                for image, sha256 in images.items()
                if image.position in trial.points and (sha256, trial.rollout.sha256) not in self._known
            ]
            session = self._sessions.get(trial) if lacking else None
            if session is not None:
                for image in lacking:
                    found.setdefault(image, []).append(session)
        return found

    def _look_up(self, shas: Iterable[str]) -> None:
        if new := {*shas} - self._asked:
            self._asked |= new
            self._known |= {*self._known_inferences(self._models, new)}


def _known_sha256(image: BatchImage) -> str | None:
    """Return the hash of bytes that are not going to be read, if the server of a URL says that they are the same."""
    if image.unchanged:
        return image.sha256
    return image.seen.sha256 if image.seen is not None and image.known else None


def _outcome(image: BatchImage) -> str | None:
    """Return the hash of an image that was tagged."""
    source = image.twin or image
    return None if source.code else image.sha256


def _stand_in(image: BatchImage, session: Session) -> BatchImage:
    """Return an image that fails instead of this one."""
    return BatchImage(image.position, image.uri, facts=image.facts, inputs=image.inputs, missing=[session])
