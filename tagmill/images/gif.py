"""GIF: count the frames without decoding them."""

from tagmill.outcomes import ErrorCode, ImageFailure

#: extensions of a file; an animation has one or two for each frame
_MAX_EXTENSIONS = 100_000


def count_frames(data: bytes, limit: int) -> int:
    """Return the number of frames; counting stops at `limit` + 1.

    Follows the lengths of the blocks (GIF89a specification, sections 17 to 26).
    """
    if len(data) < 13:
        raise ImageFailure(ErrorCode.TRUNCATED, "the GIF ends in its header")
    frames, extensions, offset = 0, 0, _end_of_color_table(13, data[10])
    while offset < len(data) and frames <= limit:
        kind = data[offset]
        if kind == 0x2C and offset + 10 < len(data):
            frames += 1
            offset = _end_of_color_table(offset + 10, data[offset + 9]) + 1
        elif kind == 0x21:
            extensions += 1
            if extensions > _MAX_EXTENSIONS:
                raise ImageFailure(ErrorCode.CORRUPT, f"the GIF has over {_MAX_EXTENSIONS} extensions")
            offset += 2
        else:
            break
        while offset < len(data) and data[offset]:
            offset += 1 + data[offset]
        offset += 1
    return frames


def _end_of_color_table(start: int, flags: int) -> int:
    """Return the end of the color table at `start`; `flags` says whether there is one, and its size."""
    return start + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
