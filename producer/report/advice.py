"""What each code of a failed image means, and what to do about it."""

from tagmill.outcomes import ErrorCode

#: code -> meaning, what to do
ADVICE = {
    ErrorCode.NOT_FOUND: (
        "no file at the path, or HTTP 404 or 410",
        "Put the image there, or correct its location in the manifest; then retry.",
    ),
    ErrorCode.FORBIDDEN_LOCATION: (
        "outside the allowed folders, or a network address that is not allowed",
        "Add the folder to TAGMILL_ALLOWED_ROOTS or the host to TAGMILL_ALLOW_PRIVATE_HOSTS, and submit it again.",
    ),
    ErrorCode.UNSUPPORTED_LOCATION: (
        "neither an absolute path nor a URL that workers fetch",
        "Correct the location in the manifest, and submit it again.",
    ),
    ErrorCode.FETCH_FAILED: (
        "the server refused or closed the connection, or was too busy, or the file could not be read",
        "Retry once the server or the disk is well again.",
    ),
    ErrorCode.FETCH_TIMEOUT: (
        "the location did not answer in time",
        "Retry, or raise TAGMILL_FETCH_TIMEOUT for slow servers.",
    ),
    ErrorCode.TOO_MANY_BYTES: (
        "larger than TAGMILL_MAX_IMAGE_BYTES",
        "Ask the supplier for a smaller file, or raise the limit, and submit it again.",
    ),
    ErrorCode.EMPTY: ("zero bytes", "Ask the supplier for the image again."),
    ErrorCode.NOT_AN_IMAGE: (
        "bytes of no known image format, such as a web page",
        "Open the location in a browser: it often leads to an error page. Ask the supplier for the image.",
    ),
    ErrorCode.UNSUPPORTED_FORMAT: (
        "an image of a format or variant that is not read",
        "Ask the supplier for a JPEG, PNG or WebP.",
    ),
    ErrorCode.TRUNCATED: (
        "the file ends before the image's last row",
        "The transfer was cut off: ask the supplier for the image again.",
    ),
    ErrorCode.CORRUPT: ("damaged inside", "Ask the supplier for the image again."),
    ErrorCode.TOO_MANY_PIXELS: (
        "more than TAGMILL_MAX_IMAGE_PIXELS",
        "Ask the supplier for a smaller image, or raise the limit, and submit it again.",
    ),
    ErrorCode.TOO_MANY_FRAMES: (
        "more frames or pages than TAGMILL_MAX_IMAGE_FRAMES, or a JPEG of more than 100 scans",
        "Ask the supplier for a still image.",
    ),
    ErrorCode.INFERENCE_FAILED: (
        "the model raised on this image, and not on a golden sample of its bundle",
        "Show the image to the people who made the model.",
    ),
    ErrorCode.TIMED_OUT: (
        "reading, decoding or inference did not end within TAGMILL_STALL_SECONDS",
        "Retry; if it happens again, the image is to blame.",
    ),
    ErrorCode.OUT_OF_MEMORY: (
        "the image alone needs more memory than there is",
        "Retry on a worker with more memory, or raise TAGMILL_MAX_WORKER_MEMORY.",
    ),
    ErrorCode.CRASHED_WORKER: (
        "processed alone, it ended its process",
        "Keep the image from the catalog, and report it as a bug.",
    ),
    ErrorCode.BATCH_DEAD: (
        "its batch ended without a result TAGMILL_MAX_ATTEMPTS times",
        "The detail holds the last reason: correct it, then retry.",
    ),
}


def retry_command(run_id: int, code: str, *, local: bool) -> str | None:
    """Return the command that tries the images of a code again, None if that is of no use."""
    if not ErrorCode(code).worth_retrying:
        return None
    return (
        f"the same tagmill tag with --retry-failed --code {code}"
        if local
        else f"tagmill run retry {run_id} --code {code}"
    )
