"""`whole_file` writes a file completely or not at all, and writes to devices and pipes directly."""

import os
import stat
import threading
from pathlib import Path

import pytest

from tagmill.files import whole_file


class DiskFull(OSError):
    """Any error in the middle of writing."""


def fail_while_writing(path: Path) -> None:
    with whole_file(path) as out:
        out.write("half")
        out.flush()
        raise DiskFull


def test_a_file_is_written_as_utf8_with_its_line_ends_unchanged(tmp_path: Path) -> None:
    with whole_file(tmp_path / "tags.csv") as out:
        out.write("日本é\r\n")
    assert (tmp_path / "tags.csv").read_bytes() == "日本é\r\n".encode()
    assert list(tmp_path.iterdir()) == [tmp_path / "tags.csv"]


def test_an_error_while_writing_keeps_the_earlier_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("earlier")
    with pytest.raises(DiskFull):
        fail_while_writing(path)
    with pytest.raises(DiskFull):
        fail_while_writing(tmp_path / "new.csv")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [tmp_path / "tags.csv"]


def test_the_mode_of_a_file_and_a_link_to_it_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "tags.csv", tmp_path / "latest.csv"
    path.write_text("earlier")
    path.chmod(0o640)
    link.symlink_to("tags.csv")
    with whole_file(link) as out:
        out.write("new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    path, read = tmp_path / "fifo", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    with whole_file(path) as out:
        out.write("through")
    reader.join(10)
    assert read == ["through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_file_that_a_shell_has_opened_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    with path.open("w") as opened:
        before = path.stat().st_ino
        with whole_file(Path(f"/dev/fd/{opened.fileno()}")) as out:
            out.write("new")
        assert (path.read_text(), path.stat().st_ino) == ("new", before)


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "tags.csv") as out:
        out.write("new")
