"""The suffixes of images: those that are read, and those that are known and not read."""

from tagmill.images.image import SUFFIXES, UNREAD_SUFFIXES


def test_no_suffix_is_read_and_unread() -> None:
    every = (*SUFFIXES, *UNREAD_SUFFIXES)
    assert len(set(every)) == len(every)


def test_suffixes_are_lower_case_and_begin_with_a_dot() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in (*SUFFIXES, *UNREAD_SUFFIXES))


def test_the_suffixes_that_cameras_and_browsers_give_to_jpegs_are_read() -> None:
    assert {".jpg", ".jpeg", ".jpe", ".jfif"} <= set(SUFFIXES)
