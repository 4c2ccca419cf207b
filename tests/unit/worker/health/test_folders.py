"""Which missing files are a worker's fault, on real folders."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagmill.outcomes import ErrorCode
from worker.health import folders
from worker.health.folders import file_state, folder_fault
from worker.health.time_limit import within


def none() -> Iterator[str]:
    """Return no other files."""
    return iter(())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder /mnt/shop with a few files in subfolders."""
    shop = tmp_path / "mnt" / "shop"
    for name in ("hats/1.jpg", "hats/2.jpg", "shoes/1.jpg"):
        (shop / name).parent.mkdir(parents=True, exist_ok=True)
        (shop / name).write_bytes(b"x")
    return shop


def detail(path: Path, *roots: Path, code: ErrorCode = ErrorCode.NOT_FOUND, others: tuple[Path, ...] = ()) -> str:
    found = folder_fault(str(path), code, list(map(str, roots)), lambda: map(str, others))
    return "" if found is None else found.detail


def test_a_file_that_is_missing_in_a_full_folder_is_only_missing(shop: Path) -> None:
    assert detail(shop / "hats/3.jpg", shop) == ""
    assert detail(shop / "hats/" / ("x" * 300), shop) == ""
    assert detail(shop / "hats/1.jpg/2.jpg", shop, others=(shop / "hats/2.jpg",)) == ""


def test_a_missing_or_empty_folder_is_the_workers_fault(shop: Path) -> None:
    wanted = shop / "hats/1.jpg"
    shutil.rmtree(shop)
    assert detail(wanted, shop) == f"{shop}: there is no such folder on this worker; mount it at this path"
    shop.mkdir()
    assert detail(wanted, shop) == f"{shop}: is empty on this worker; mount it at this path"
    (shop / "lost+found").mkdir()
    (shop / ".not-mounted").touch()
    assert "is empty" in detail(wanted, shop)
    (shop / "hats").mkdir()
    assert "hats: is empty" in detail(wanted, shop)


def test_a_folder_that_was_deleted_beside_files_of_the_run_is_only_missing(shop: Path) -> None:
    wanted = shop / "shoes/1.jpg"
    shutil.rmtree(shop / "shoes")
    assert detail(wanted, shop, others=(wanted, shop / "hats/1.jpg")) == ""
    # Other things are mounted there: of the run there is nothing.
    assert "this worker can read no file of the run there" in detail(wanted, shop, others=(wanted,))


def test_the_deepest_allowed_folder_counts(shop: Path, tmp_path: Path) -> None:
    wanted = shop / "hats/1.jpg"
    shutil.rmtree(shop)
    found = folder_fault(str(wanted), ErrorCode.NOT_FOUND, [str(tmp_path), str(shop)], none)
    assert found is not None
    assert found.root == str(shop)
    assert folder_fault(str(wanted), ErrorCode.NOT_FOUND, ["/elsewhere"], none) is None
    assert folder_fault("/a\0b", ErrorCode.NOT_FOUND, ["/"], none) is None


def test_a_link_to_the_folder_is_followed(shop: Path, tmp_path: Path) -> None:
    link = tmp_path / "catalog"
    link.symlink_to(shop)
    assert detail(link / "hats/3.jpg", link) == ""
    shutil.rmtree(shop)
    assert "there is no such folder" in detail(link / "hats/3.jpg", link)


def test_a_single_file_that_was_submitted_belongs_to_its_folder(shop: Path) -> None:
    wanted = shop / "hats/1.jpg"
    wanted.unlink()
    assert detail(wanted, wanted) == ""
    (shop / "hats/2.jpg").unlink()
    assert "hats: is empty" in detail(wanted, wanted)


@pytest.mark.parametrize("code", [ErrorCode.FETCH_FAILED, ErrorCode.FETCH_TIMEOUT, ErrorCode.TIMED_OUT])
def test_a_file_that_cannot_be_read_is_bad_itself_if_another_one_can(shop: Path, code: ErrorCode) -> None:
    wanted = shop / "shoes/1.jpg"
    assert detail(wanted, shop, code=code) == ""  # it can be read now
    wanted.unlink()
    wanted.mkdir()  # root may read everything but a folder
    assert detail(wanted, shop, code=code, others=(shop / "hats/1.jpg",)) == ""
    assert "this worker can read no file of the run there" in detail(wanted, shop, code=code, others=(wanted,))
    (shop / "shoes/2.jpg").write_bytes(b"x")
    assert detail(wanted, shop, code=code) == ""


@pytest.fixture
def closed(shop: Path) -> Iterator[Path]:
    """The folder, which this process may not read: for a test of root, as another user."""
    root = os.geteuid() == 0
    for folder in shop.parents[:3]:
        folder.chmod(0o755)
    shop.chmod(0o000)
    if root:
        os.seteuid(65534)
    yield shop
    if root:
        os.seteuid(0)
    shop.chmod(0o755)


def test_a_folder_that_this_worker_may_not_read_is_the_workers_fault(closed: Path) -> None:
    reason = "Permission denied on this worker; mount it again, or let the worker's user read it"
    assert detail(closed / "hats/1.jpg", closed, code=ErrorCode.FETCH_FAILED).endswith(reason)


def test_the_state_of_a_file_is_what_reading_it_gives(shop: Path) -> None:
    assert file_state(str(shop / "hats/1.jpg")) is None
    assert file_state(str(shop / "hats/3.jpg")) is ErrorCode.NOT_FOUND
    assert file_state("/a\0b") is ErrorCode.NOT_FOUND
    assert file_state(str(shop / "hats")) is ErrorCode.FETCH_FAILED


def test_a_folder_that_does_not_answer_is_the_workers_fault(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "ANSWER_SECONDS", 0.05)

    go_on = threading.Event()

    def hangs() -> Iterator[str]:
        go_on.wait(60)
        return iter(())

    found = folder_fault(str(shop / "gone/1.jpg"), ErrorCode.NOT_FOUND, [str(shop)], hangs)
    go_on.set()
    assert found is not None
    assert found.detail == f"{shop}: does not answer on this worker; mount it again"


def test_within_passes_results_and_errors_on() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    go_on = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, go_on.wait)
    go_on.set()
