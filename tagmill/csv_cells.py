"""Rows and cells of the CSV files that people open in a spreadsheet: no formulas, and read back unchanged.

Image keys and URLs come from suppliers. A cell that begins with `=` may run a command when a spreadsheet opens it
(OWASP, CSV injection; CWE-1236). `tagmill results` writes an apostrophe in front of it, and every reader of such a file
takes it away. A file that people wrote themselves is read as it is.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tagmill.errors import InputError
from tagmill.text import normalize

#: columns that only `tagmill results` writes together: their cells are escaped
_OF_RESULTS = frozenset({"status", "error_code", "sha256"})
#: separates the labels of one image; with a backslash before it, it belongs to a label
SEPARATOR = "|"

# Spreadsheets of some countries separate cells by semicolons, and an import may separate them by tabs: a formula can
# begin after each. White space and quotes before it do not keep it from being one.
_STARTS = r"(?:^|(?<=[;\t\r\n]))"
_FORMULA = r"(?=[\s'\"]*[=+\-@\uff0b\uff0d\uff1d\uff20\t\r])"
#: nearly every cell: this expression takes a tenth of the time of the next
_PLAIN = re.compile(r"[\w/][^;\t\r\n]*\Z")
_ESCAPE = re.compile(_STARTS + _FORMULA)
_UNESCAPE = re.compile(f"{_STARTS}'{_FORMULA}")
_BAR = re.compile(r"(\\*)\|")
_LAST_BACKSLASHES = re.compile(r"\\+$")


def escape_cell(text: str) -> str:
    """Return the text with an apostrophe wherever a spreadsheet would begin a formula."""
    return text if _PLAIN.match(text) else _ESCAPE.sub("'", text)


def unescape_cell(text: str) -> str:
    """Return what `escape_cell` was given."""
    return _UNESCAPE.sub("", text)


def cell_reader(header: Iterable[str]) -> Callable[[str], str]:
    """Return the function that reads the cells below this header: `unescape_cell` for a file of `tagmill results`."""
    return unescape_cell if is_of_results(header) else str


def is_of_results(header: Iterable[str]) -> bool:
    """Return whether this is the header of a CSV file that `tagmill results` wrote."""
    return _OF_RESULTS.issubset(header)


def join_labels(labels: Iterable[str]) -> str:
    r"""Return the labels of an image as one cell, separated by bars; a bar in a label becomes `\|`."""
    labels = list(labels)
    if len(labels) == 1 and SEPARATOR not in labels[0]:
        return labels[0]
    escaped = [_BAR.sub(lambda bar: rf"{bar[1] * 2}\|", label) for label in labels]
    # A backslash at the end of a label must not make the separator a part of it.
    return SEPARATOR.join([*(_LAST_BACKSLASHES.sub(r"\g<0>\g<0>", label) for label in escaped[:-1]), *escaped[-1:]])


def split_labels(cell: str) -> tuple[str, ...]:
    """Return the labels of a cell in their one spelling, each once; the reverse of `join_labels`."""
    labels, label, start = [], "", 0
    for bar in _BAR.finditer(cell):
        backslashes = len(bar[1])
        label += cell[start : bar.start()] + "\\" * (backslashes // 2)
        start = bar.end()
        if backslashes % 2:
            label += SEPARATOR
        else:
            labels.append(label)
            label = ""
    labels.append(label + cell[start:])
    return tuple(dict.fromkeys(name for name in map(normalize, labels) if name))


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV that are not empty, with their line numbers; a byte order mark is skipped.

    Raise InputError with the file, and the line if it is known, for one that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            for row in reader:
                if len(row) > 1 or "".join(row).strip():
                    yield reader.line_num, row
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8; save it as CSV UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is not CSV: {error}") from error
