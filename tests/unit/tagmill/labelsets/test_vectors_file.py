"""Files of vectors that other tools write, good and bad."""

from pathlib import Path

import numpy as np
import pytest

from tagmill.errors import InputError
from tagmill.labelsets.vectors_file import read_vectors_file

GOOD = {"labels": np.array(["hat", "shoe"]), "vectors": np.eye(2, 3)}


def write(folder: Path, **arrays: object) -> Path:
    path = folder / "texts.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_several_vectors_of_a_label_are_averaged_by_direction(tmp_path: Path) -> None:
    vectors = np.array([[5, 0, 0], [0, 0, 1], [0, 2, 0]], np.float16)
    found = read_vectors_file(write(tmp_path, labels=np.array(["hat", "shoe", "hat"]), vectors=vectors), 3)
    assert found.labels == ("hat", "shoe")
    assert found.vectors.tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert found.vectors.dtype == np.float32
    assert found.temperature is None


def test_a_file_may_have_a_temperature(tmp_path: Path) -> None:
    assert read_vectors_file(write(tmp_path, **GOOD, temperature=0.07), 3).temperature == pytest.approx(0.07)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([1, 2])}, "labels must be a list of texts"),
        ({"labels": np.array(["hat"])}, "vectors must be numbers in 1 rows"),
        ({"vectors": np.eye(2, 4)}, "have 4 numbers, the model's embedding has 3"),
        ({"vectors": np.zeros((2, 3))}, "zero or not finite"),
        ({"vectors": np.full((2, 3), np.nan)}, "zero or not finite"),
        ({"temperature": np.array([1, 2])}, "one positive number"),
        ({"temperature": 0.0}, "one positive number"),
        ({"labels": np.array(["hat", "shoe"], object)}, "not an .npz file of plain arrays"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_vectors_file(write(tmp_path, **(GOOD | changes)), 3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name an"):
        read_vectors_file(tmp_path / "missing.npz", 3)
    with pytest.raises(InputError, match="has no array vectors"):
        read_vectors_file(write(tmp_path, labels=GOOD["labels"]), 3)
    text = tmp_path / "text.npz"
    text.write_text("label,vector")
    with pytest.raises(InputError, match="of plain arrays"):
        read_vectors_file(text, 3)
    np.save(tmp_path / "one.npy", np.eye(3))
    with pytest.raises(InputError, match="single array"):
        read_vectors_file(tmp_path / "one.npy", 3)
