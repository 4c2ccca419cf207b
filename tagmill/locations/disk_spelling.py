"""Find files whose names the disk spells differently from a manifest: in another Unicode form, or with spaces."""

import os
import unicodedata

from tagmill.text import normalize

#: folders whose spelling is remembered, and folders whose unusual names are
_MOST_FOLDERS, _MOST_LISTED = 1000, 4


class DiskSpelling:
    """Finds files by names that look the same. What it learned of folders is kept as long as the object."""

    def __init__(self) -> None:
        #: folder as it was given -> as the disk spells it, or an empty string if there is none
        self._folders: dict[str, str] = {}
        #: folder -> normalized name -> name on the disk, of names that are not normalized
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, path: str) -> str:
        """Return the path as the disk spells it; unchanged if it exists, or if no such file is there."""
        if os.path.lexists(path):
            return path
        folder, name = os.path.split(path)
        if not name or folder == path or not (real := self._folder(folder or ".")):
            return path
        for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            if os.path.lexists(found := f"{real.rstrip('/')}/{form}"):
                return found
        unusual = self._unusual_names(real).get(normalize(name))
        return f"{real.rstrip('/')}/{unusual}" if unusual else path

    def _folder(self, folder: str) -> str:
        if folder not in self._folders:
            found = self.find(folder)
            if len(self._folders) >= _MOST_FOLDERS:
                self._folders.clear()
            self._folders[folder] = found if os.path.isdir(found) else ""  # noqa: PTH112 - a string, as all paths here
        return self._folders[folder]

    def _unusual_names(self, folder: str) -> dict[str, str]:
        if folder not in self._listed:
            if len(self._listed) >= _MOST_LISTED:
                self._listed.clear()
            try:
                names = os.listdir(folder)  # noqa: PTH208 - see above
            except OSError:
                names = []
            self._listed[folder] = {form: name for name in names if (form := normalize(name)) != name}
        return self._listed[folder]
