"""Read vectors of labels that a tool elsewhere wrote, such as the text tower of a CLIP-like model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.text import normalize


@dataclass(frozen=True)
class LabelVectors:
    """One vector for each label, float32 [labels, D], and the temperature of the file, if it has one."""

    labels: tuple[str, ...]
    vectors: NDArray[np.float32]
    temperature: float | None


def read_vectors_file(path: Path, width: int) -> LabelVectors:
    """Return the arrays `labels`, `vectors` and perhaps `temperature` of an .npz file.

    A label may have several vectors, such as those of several phrases: their directions are averaged. Raise InputError
    if an array is missing or does not fit, also if the vectors do not have `width` numbers.
    """
    arrays = _load(path)
    for name in ("labels", "vectors"):
        if name not in arrays:
            raise InputError(f"{path}: has no array {name}; write it with numpy.savez(FILE, labels=..., vectors=...)")
    labels, vectors = arrays["labels"], arrays["vectors"]
    if labels.ndim != 1 or labels.dtype.kind != "U" or not len(labels):
        raise InputError(f"{path}: labels must be a list of texts, and not of {labels.dtype}")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or len(vectors) != len(labels):
        raise InputError(f"{path}: vectors must be numbers in {len(labels)} rows, one for each label")
    if vectors.shape[1] != width:
        raise InputError(
            f"{path}: its vectors have {vectors.shape[1]} numbers, the model's embedding has {width}; "
            "text and image tower must belong together"
        )
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InputError(f"{path}: a vector is zero or not finite")
    names = [normalize(str(label)) for label in labels]
    known = tuple(dict.fromkeys(names))
    means = np.stack([(vectors / lengths)[[name == label for name in names]].mean(axis=0) for label in known])
    return LabelVectors(known, means, _temperature(path, arrays.get("temperature")))


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{path}: is a single array; write labels and vectors with numpy.savez")
        with file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name an .npz file") from error
    except (ValueError, BadZipFile, EOFError) as error:
        raise InputError(f"{path}: is not an .npz file of plain arrays ({error})") from error


def _temperature(path: Path, found: NDArray[Any] | None) -> float | None:
    if found is None:
        return None
    if found.size != 1 or found.dtype.kind not in "fiu" or not 0 < float(found.reshape(())) < np.inf:
        raise InputError(f"{path}: temperature must be one positive number")
    return float(found.reshape(()))
