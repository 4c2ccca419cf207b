"""Read examples that the catalog holds already: a CSV of keys and labels."""

from pathlib import Path

from tagmill.csv_cells import cell_reader, read_rows
from tagmill.errors import InputError, NothingToDo
from tagmill.text import normalize, trim

#: the columns that name a key of the catalog
KEYS = ("key", "image_key")


def read_key_csv(path: Path) -> dict[str, str]:
    """Return key -> label of a CSV with the columns `key` (or `image_key`) and `label`.

    Rows without a label are left out. Raise InputError with file and line, and NothingToDo if no row has a label.
    """
    rows = read_rows(path)
    line, header = next(rows, (1, []))
    names = [normalize(trim(name)) for name in header]
    key = next((names.index(name) for name in KEYS if name in names), None)
    if key is None or "label" not in names:
        raise InputError(f"{path}:{line}: has no columns key and label; examples start with the line key,label")
    label, read_cell, found = names.index("label"), cell_reader(names), dict[str, str]()
    for line, row in rows:
        if len(row) != len(names):
            raise InputError(f"{path}:{line}: has {len(row)} columns, its header {len(names)}; quote a comma")
        one, word = read_cell(row[key]), normalize(trim(read_cell(row[label])))
        if word and found.setdefault(one, word) != word:
            raise InputError(f"{path}:{line}: {one} is an example of {found[one]} and of {word}; keep one of them")
    if not found:
        raise NothingToDo(f"{path}: holds no example")
    return found
