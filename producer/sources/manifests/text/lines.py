"""The lines of a text manifest, in flat memory. A line that is no text is noted and reading goes on."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from producer.sources.manifests.manifest import Manifest, ManifestError
from producer.sources.manifests.standard_input import open_manifest
from producer.sources.manifests.text.compression import DAMAGED, decompressed
from producer.sources.manifests.text.encoding import is_utf8_name, likely_encoding, marked_encoding, to_utf8

#: bytes of one record with all its columns; also what an unclosed quote can swallow
MAX_RECORD_BYTES = 2**20
#: bytes that are decoded at once
_BLOCK_BYTES = 256 * 2**10


class TextLines:
    """The lines of a manifest as text, with their line breaks. Only line feeds separate lines, as in CSV.

    It holds a block of lines, and at most `MAX_RECORD_BYTES` of one.
    """

    def __init__(self, chunks: Iterator[bytes], encoding: str | None) -> None:
        self._chunks = chunks
        self._encoding = encoding
        self._advice: str | None = None
        #: number of the last line that was yielded
        self.number = 0
        #: first line of the current record
        self.record = 1
        self._size = 0
        #: whether the lines ended because of a record that is longer than `MAX_RECORD_BYTES`
        self.too_long = False
        #: what is wrong with lines, by their numbers, of the current block
        self._bad: dict[int, str] = {}

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks():
            for line in io.StringIO(self._decode(block), newline="\n"):
                self.number += 1
                self._size += len(line)
                if self._size > MAX_RECORD_BYTES:
                    self.too_long = True
                    return
                yield line

    def start_record(self) -> None:
        """Note that the next line begins a record."""
        self.record = self.number + 1
        self._size = 0

    def problem_since(self, first: int) -> str | None:
        """Return what is wrong with one of the lines from this number to the last one that was yielded."""
        if self.too_long:
            return f"is longer than {MAX_RECORD_BYTES} bytes, or a quote is not closed"
        if self._bad:
            for number in range(first, self.number + 1):
                if number in self._bad:
                    return self._bad.pop(number)
        return None

    def _blocks(self) -> Iterator[bytes]:
        """Yield the text in parts that end with a line break, but for the last one and a line that is too long."""
        rest = b""
        for chunk in self._chunks:
            end = chunk.rfind(b"\n") + 1
            if end:
                yield rest + chunk[:end]
                rest = chunk[end:]
            else:
                rest += chunk
            if len(rest) > MAX_RECORD_BYTES:
                break
        if rest:
            yield rest

    def _decode(self, block: bytes) -> str:
        try:
            text = block.decode()
        except UnicodeDecodeError:
            text = self._decode_lines(block)
        if self.number == 0:
            text = text.removeprefix("\ufeff")
        if "\0" in text:
            self._note_nul(text, block)
        return text

    def _decode_lines(self, block: bytes) -> str:
        texts = []
        for number, line in enumerate(io.BytesIO(block), self.number + 1):
            try:
                texts.append(line.decode())
            except UnicodeDecodeError as error:
                self._bad[number] = self._not_text(error, block)
                texts.append(line.decode(errors="replace"))
        return "".join(texts)

    def _not_text(self, error: UnicodeDecodeError, block: bytes) -> str:
        if self._encoding is not None:
            before = len(error.object[: error.start].decode()) + 1
            return f"is not {self._encoding} at character {before} of the line"
        if self._advice is None:
            found = likely_encoding(block)
            self._advice = f"; it looks like {found}: add --encoding {found}" if found else ""
        return f"is not UTF-8 at byte {error.start + 1} of the line{self._advice}"

    def _note_nul(self, text: str, block: bytes) -> None:
        found = None if self._encoding else likely_encoding(block)
        advice = f"it looks like {found}: add --encoding {found}" if found else "a manifest is text without it"
        for number, line in enumerate(io.StringIO(text, newline="\n"), self.number + 1):
            if "\0" in line:
                self._bad.setdefault(number, f"contains a NUL byte; {advice}")


@contextmanager
def open_lines(manifest: Manifest) -> Iterator[TextLines]:
    """Open the lines of a manifest: decompressed, in UTF-8. Raise ManifestError if it turns out to be damaged."""
    with open_manifest(manifest.location) as file:
        content = decompressed(file, manifest.location)
        chunks = iter(lambda: content.read(_BLOCK_BYTES), b"")
        lines: TextLines | None = None
        try:
            first = next(chunks, b"")
            encoding = manifest.options.encoding or marked_encoding(first)
            encoding = None if encoding is None or is_utf8_name(encoding) else encoding
            chunks = _chain(first, chunks)
            lines = TextLines(to_utf8(chunks, encoding) if encoding else chunks, encoding)
            yield lines
        except DAMAGED as error:
            raise ManifestError(f"is damaged after line {lines.number if lines else 0}: {error}") from error


def _chain(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
        yield from chunks
