"""Files are written completely or not at all; devices and pipes are written to directly."""

import os
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tagmill.errors import ConfigurationError
from tagmill.files import atomic_write, open_atomic, user_cache, write_bytes_atomic


class DiskFull(OSError):
    """Any error in the middle of writing."""


def fail_while_writing(path: Path) -> None:
    with open_atomic(path) as out:
        out.write(b"half")
        out.flush()
        raise DiskFull


def test_a_file_is_written_with_its_bytes_unchanged(tmp_path: Path) -> None:
    with open_atomic(tmp_path / "tags.csv") as out:
        out.write("日本é\r\n".encode())
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
    with open_atomic(link) as out:
        out.write(b"new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    path, read = tmp_path / "fifo", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    with open_atomic(path) as out:
        out.write(b"through")
    reader.join(60)
    assert read == ["through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_file_that_a_shell_has_opened_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    with path.open("w") as opened:
        before = path.stat().st_ino
        with open_atomic(Path(f"/dev/fd/{opened.fileno()}")) as out:
            out.write(b"new")
        assert (path.read_text(), path.stat().st_ino) == ("new", before)


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_atomic(tmp_path / "none" / "tags.csv") as out:
        out.write(b"new")


def test_a_file_or_an_empty_folder_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path, folder = tmp_path / "model.onnx", tmp_path / "train"
    path.write_text("earlier")
    folder.mkdir()
    with atomic_write(path) as temporary:
        assert (temporary.parent, temporary.suffix, temporary.exists()) == (tmp_path, ".onnx", False)
        temporary.write_text("new")
        assert path.read_text() == "earlier"
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        (temporary / "1.png").write_text("new")
    assert path.read_text() == "new"
    assert (folder / "1.png").read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [path, folder]


@pytest.mark.parametrize("error", [DiskFull, KeyboardInterrupt])
def test_after_an_error_the_old_file_is_unchanged_and_the_temporary_one_is_removed(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path, folder = tmp_path / "model.onnx", tmp_path / "train"
    path.write_text("earlier")

    def write_half(to: Path) -> None:
        with atomic_write(to) as temporary:
            if to is folder:
                temporary.mkdir()
                temporary = temporary / "1.png"
            temporary.write_text("half")
            raise error

    for to in (path, folder):
        with pytest.raises(error):
            write_half(to)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_holds_files_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "earlier.png").write_text("")
    with pytest.raises(OSError, match="not empty"), atomic_write(folder) as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["train", "earlier.png"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("earlier")
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert path.read_text() == "earlier"


def test_processes_that_write_the_same_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    code = (
        "import sys; from pathlib import Path; from tagmill.files import write_bytes_atomic\n"
        "for _ in range(200): write_bytes_atomic(Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 100_000
            seen |= set(content)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= set(b"ab")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_takes_no_new_file_leaves_the_old_one(tmp_path: Path) -> None:
    """Another user runs it, since root may write everywhere."""
    path = tmp_path / "tags.csv"
    path.write_text("earlier")
    tmp_path.chmod(0o555)
    code = """
        import os, sys
        from pathlib import Path
        from tagmill.errors import ConfigurationError
        from tagmill.files import atomic_write, open_atomic, user_cache, write_bytes_atomic

        os.chdir(sys.argv[1])
        if os.getuid() == 0:
            os.setuid(65534)
        path = Path("tags.csv")
        try:
            with atomic_write(path) as temporary:
                temporary.write_text("new")
        except PermissionError:
            print("refused")
        try:
            write_bytes_atomic(path, b"new")
        except ConfigurationError as error:
            print(error)
        try:
            with open_atomic(Path("new.csv")) as out:
                out.write(b"new")
        except PermissionError:
            print("refused")
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=False
        )
    finally:
        tmp_path.chmod(0o755)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "refused",
        "tags.csv: Permission denied; make room, or name another folder with --out",
        "refused",
    ]
    assert [found.read_text() for found in tmp_path.iterdir()] == ["earlier"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("earlier")
    monkeypatch.setattr("tagmill.files.token_hex", lambda size: "known")
    (tmp_path / ".tagmill-known.partial.html").symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match=r"report.html: No space left on device; make room"):
        write_bytes_atomic(path, b"new")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_cached_files_are_below_the_home_folder_unless_a_variable_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "tagmill"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert user_cache() == Path.home() / ".cache" / "tagmill"
