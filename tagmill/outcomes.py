"""The outcome of one image: its status in SQL and its error code."""

from enum import StrEnum


class ImageStatus(StrEnum):
    """The values of `run_image.status`."""

    #: not tagged yet
    PENDING = "pending"
    #: every model of the run has a result for the image's bytes
    TAGGED = "tagged"
    #: could not be tagged; `error_code` says why
    FAILED = "failed"


class ErrorCode(StrEnum):
    """The values of `run_image.error_code`: why one image failed. The rest of its batch is not affected."""

    #: no file at the path, no object, or HTTP 404 or 410
    NOT_FOUND = "not_found"
    #: the location is outside the allowed roots and prefixes, or a network address that is not allowed
    FORBIDDEN_LOCATION = "forbidden_location"
    #: the uri is neither an absolute path nor of a scheme in `tagmill.locations.schemes.SCHEMES`
    UNSUPPORTED_LOCATION = "unsupported_location"
    #: the server refused or closed the connection, or the file could not be read
    FETCH_FAILED = "fetch_failed"
    #: the location did not answer in time
    FETCH_TIMEOUT = "fetch_timeout"
    #: more bytes than `TAGMILL_MAX_IMAGE_BYTES`
    TOO_MANY_BYTES = "too_many_bytes"
    #: zero bytes
    EMPTY = "empty"
    #: the bytes are of no known image format
    NOT_AN_IMAGE = "not_an_image"
    #: an image of a known format, or of a variant of one, that is not read; the detail names it
    UNSUPPORTED_FORMAT = "unsupported_format"
    #: the image ends before its last row
    TRUNCATED = "truncated"
    #: the bytes are damaged
    CORRUPT = "corrupt"
    #: more pixels than `TAGMILL_MAX_IMAGE_PIXELS`
    TOO_MANY_PIXELS = "too_many_pixels"
    #: more frames or pages than `TAGMILL_MAX_IMAGE_FRAMES`, or more than 100 scans in a JPEG
    TOO_MANY_FRAMES = "too_many_frames"
    #: the model raised an error on this image
    INFERENCE_FAILED = "inference_failed"
    #: reading, decoding or inference took longer than `TAGMILL_STALL_SECONDS`
    TIMED_OUT = "timed_out"
    #: this image alone needs more memory than is available
    OUT_OF_MEMORY = "out_of_memory"
    #: this image alone ended the process that tagged it
    CRASHED_WORKER = "crashed_worker"
    #: its batch failed `TAGMILL_MAX_ATTEMPTS` times
    BATCH_DEAD = "batch_dead"

    @property
    def worth_retrying(self) -> bool:
        """Whether a retry may succeed once something outside the image is fixed."""
        return self in _WORTH_RETRYING


_WORTH_RETRYING = {
    ErrorCode.NOT_FOUND,
    ErrorCode.FETCH_FAILED,
    ErrorCode.FETCH_TIMEOUT,
    ErrorCode.TIMED_OUT,
    ErrorCode.OUT_OF_MEMORY,
    ErrorCode.BATCH_DEAD,
}


class ImageFailure(Exception):
    """An error while reading one image, which becomes its outcome: a code, and a detail that says what was found."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def printable(text: str) -> str:
    """Return at most 300 characters that SQL can store: no NUL and no surrogates."""
    return text[:300].encode("utf-8", "backslashreplace").decode().replace("\0", r"\0")
