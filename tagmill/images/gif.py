"""GIF: how many frames there are, without decoding them."""

from tagmill.outcomes import ErrorCode, ImageFailure

#: extensions of a file; an animation has one or two for each frame
_MAX_EXTENSIONS = 100_000


def count_frames(data: bytes, most: int) -> int:
    """Return the number of frames, counted no further than one over `most`.

    By the lengths of the blocks (GIF89a specification, sections 17 to 26).
    """
    if len(data) < 13:
        raise ImageFailure(ErrorCode.TRUNCATED, "the GIF ends in its header")
    frames, extensions, place = 0, 0, _after_table(13, data[10])
    while place < len(data) and frames <= most:
        kind = data[place]
        if kind == 0x2C and place + 10 < len(data):
            frames += 1
            place = _after_table(place + 10, data[place + 9]) + 1
        elif kind == 0x21:
            extensions += 1
            if extensions > _MAX_EXTENSIONS:
                raise ImageFailure(ErrorCode.CORRUPT, f"the GIF has over {_MAX_EXTENSIONS} extensions")
            place += 2
        else:
            break
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return frames


def _after_table(place: int, flags: int) -> int:
    """Return where a table of colors ends that the flags say is there."""
    return place + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
