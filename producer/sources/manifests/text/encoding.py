"""The encoding of a text manifest: converted to UTF-8 while reading, and guessed only for an error's advice."""

import codecs
from collections.abc import Iterable, Iterator

from producer.sources.manifests.manifest import ManifestError

#: encodings by the byte order mark at the start of a file, longest first; Excel's "Unicode text" is UTF-16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: encodings that spreadsheets and shop systems write
_CANDIDATES = [
    *("cp949", "cp932", "gb18030", "big5", "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256"),
    "koi8_r",
]
#: bytes of the text that a guess is made of
_SAMPLE_BYTES = 8192
#: stands for bytes that the encoding does not have; it is not valid UTF-8
_BAD = "\udcff"


def marked_encoding(start: bytes) -> str | None:
    """Return the encoding that the first bytes of a file name by a byte order mark."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), None)


def is_text_encoding(name: str) -> bool:
    """Return whether Python can decode text by this name."""
    try:
        "a".encode(name)
    except (LookupError, UnicodeError):  # LookupError also for codecs such as base64
        return False
    return True


def is_utf8_name(name: str) -> bool:
    """Return whether an encoding is UTF-8 under any of its names."""
    return codecs.lookup(name).name in {"utf-8", "utf-8-sig"}


def to_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the chunks in UTF-8. Bytes that the encoding does not have become bytes that are not UTF-8.

    Raise ManifestError if it is UTF-16 or UTF-32 without a byte order mark.
    """
    decoder = codecs.getincrementaldecoder(encoding)("tagmill-mark-bad")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise ManifestError(f"is not {encoding} ({error}); write {encoding}-le or {encoding}-be") from error


def likely_encoding(text: bytes) -> str | None:
    """Return the encoding that bytes which are not UTF-8 are likely in, or None if they are UTF-8 with mistakes."""
    if text[1:_SAMPLE_BYTES:2].count(0) > len(text[:_SAMPLE_BYTES]) // 5:
        return "utf-16-le"
    foreign = [line for line in text.splitlines() if not line.isascii()]
    if not foreign or any(map(_is_utf8, foreign)):
        return None
    from charset_normalizer import from_bytes  # only for this advice: it takes longer to import than a header to read

    sample = b"\n".join(foreign)[:_SAMPLE_BYTES]
    best = from_bytes(sample, cp_isolation=_CANDIDATES, threshold=0.5).best()
    if best is None:
        return None
    # Short texts are the same in several encodings of the West: name the usual one.
    return "cp1252" if str(best) == sample.decode("cp1252", "replace") else best.encoding


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mark_bad(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _BAD, error.end


codecs.register_error("tagmill-mark-bad", _mark_bad)
