"""Measure which copies of photos `tagmill duplicates` finds among other photos, and what it takes for copies.

`PYTHONPATH=tests python -m benchmarks.search.duplicates --photos FOLDER... --more FOLDER...` shuffles the JPEG files
below `--photos`. The first 500 get four copies each: half as large, recompressed at quality 30, cropped by 5 % of width
and height, mirrored. These and 3,000 other photos are stored in SQLite with their hashes and embeddings, and searched
as the command does. The embedding is what EfficientNet-Lite0 with ImageNet weights reads before its head, at 224
pixels, projected to 256 numbers as `tagmill export --embedding 256` does.

The projection and the thresholds are chosen on other photos: the rest of `--photos` and those of `--more`, 200 of them
with copies. The threshold there is the score that 98 % of these copies reach.

Recall is the share of copies that are in a group of copies with their photo. Precision is the share of the members of
such groups, without the first image of each, that show the same photo as it. Whatever else is in a group counts as
wrong, also a photo that the data itself has twice.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from sklearn.decomposition import PCA
from support.embeddings import embedding_model, store
from support.embeddings import store_hashes as store_hashes_of

from benchmarks.support.copies import COPIES, shuffled, write_copies
from benchmarks.support.machine import machine, tell
from benchmarks.support.pretrained import Features, open_photo
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.search.duplicates.find import Search, find_duplicates
from tagmill.search.duplicates.hashes import distances
from tagmill.search.duplicates.pairs import COPY_SCORE, PER_BIT

WIDTH = 256
ORIGINAL = "original"


@dataclass(frozen=True)
class Photos:
    """N images: photos, then copies of some of them."""

    #: the number of the photo that each one shows, int64 [N]
    shows: NDArray[np.int64]
    kind: NDArray[np.str_]
    #: float32 [N, F]
    features: NDArray[np.float32]
    #: uint64 [N, 2], the hash and that of the mirrored picture
    hashes: NDArray[np.uint64]


def read(paths: Sequence[Path], copied: int, features: Features, folder: Path) -> Photos:
    """Return photos with four copies of the first `copied`."""
    listed = [(number, ORIGINAL, path) for number, path in enumerate(paths)]
    listed += list(write_copies(paths[:copied], folder))
    found, hashes = [], np.zeros((len(listed), 2), np.uint64)
    for start in range(0, len(listed), 16):
        images = []
        for row, (_, _, path) in enumerate(listed[start : start + 16], start):
            image = open_photo(path)
            hashes[row] = picture_hash(image), picture_hash(ImageOps.mirror(image))
            images.append(image)
        found.append(features.of(images))
        if start % 1600 == 0:
            tell(f"{start:,} of {len(listed):,} images")
    shows, kinds = np.array([row[0] for row in listed]), np.array([row[1] for row in listed])
    return Photos(shows, kinds, np.concatenate(found), hashes)


def picture_hash(image: Image.Image) -> np.uint64:
    """Return the perceptual hash of a picture, its first bit the highest."""
    found: np.uint64 = np.packbits(imagehash.phash(image).hash.ravel()).view(">u8")[0]
    return found


def scores(photos: Photos, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the score of each copy with its photo: similarity less what the hashes differ by."""
    copies = np.nonzero(photos.kind != ORIGINAL)[0]
    of = photos.shows[copies]
    plain = distances(photos.hashes[copies, 0], photos.hashes[of, 0])
    turned = distances(photos.hashes[copies, 1], photos.hashes[of, 0])
    near: NDArray[np.float32] = np.einsum("ij,ij->i", vectors[copies], vectors[of])
    return near - PER_BIT * np.minimum(plain, turned)


def search(photos: Photos, vectors: NDArray[np.float32], folder: Path) -> list[list[int]]:
    """Store the images in SQLite; return the groups of copies that are found, by number, the first image first."""
    engine = connect(f"sqlite:///{folder / 'tags.db'}")
    upgrade(engine)
    model = embedding_model(engine, WIDTH)
    ids = store(engine, model, {f"{number:05d}": vector for number, vector in enumerate(vectors)})
    numbers = {image: int(key) for key, image in ids.items()}
    store_hashes_of(engine, {image: tuple(photos.hashes[number].tolist()) for image, number in numbers.items()})
    found = find_duplicates(engine, Search(None, model, 2.0), lambda stage, done, total: None)
    engine.dispose()
    return [[numbers[member.image] for member in group] for group in found.groups]


def report(photos: Photos, groups: Sequence[Sequence[int]]) -> str:
    """Return a Markdown table of recall and precision."""
    group_of = {image: number for number, group in enumerate(groups) for image in group}
    together = np.array(
        [
            group_of.get(image, -1) == group_of.get(int(photo), -2)
            for image, photo in enumerate(photos.shows)
            if photos.kind[image] != ORIGINAL
        ]
    )
    kinds = photos.kind[photos.kind != ORIGINAL]
    right = [photos.shows[image] == photos.shows[group[0]] for group in groups for image in group[1:]]
    lines = [f"| {kind} | {together[kinds == kind].mean():.4f} | {(kinds == kind).sum():,} |" for kind in COPIES]
    return "\n".join(
        [
            "| copies | found with their photo | n |",
            "|---|---|---|",
            *lines,
            f"| all: recall | {together.mean():.4f} | {len(together):,} |",
            f"| members of groups that belong there: precision | {np.mean(right):.4f} | {len(right):,} |",
        ]
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of the photos that are measured")
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="folders of photos for the thresholds alone")
    parser.add_argument("--copied", type=int, default=500, help="photos with copies")
    parser.add_argument("--others", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(machine(), flush=True)
    every = shuffled(options.photos, options.seed)
    measured = every[: options.copied + options.others]
    chosen = np.random.default_rng(options.seed).permutation([*every[len(measured) :], *shuffled(options.more, 0)])
    features = Features()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        choosing = read([Path(path) for path in chosen], min(200, len(chosen)), features, Path(one))
        projection = PCA(WIDTH, random_state=options.seed).fit(choosing.features[choosing.kind == ORIGINAL])
        reached = np.quantile(scores(choosing, embedded(projection, choosing)), 0.02)
        share = (scores(choosing, embedded(projection, choosing)) >= COPY_SCORE).mean()
        print(
            f"98 % of the copies of {min(200, len(chosen))} of {len(chosen):,} other photos reach {reached:.3f}, "
            f"and {share:.1%} the {COPY_SCORE:g} of the command"
        )
        photos = read(measured, options.copied, features, Path(other))
        print(report(photos, search(photos, embedded(projection, photos), Path(other))))


def embedded(projection: PCA, photos: Photos) -> NDArray[np.float32]:
    """Return the embeddings, float32 [N, 256] of unit length."""
    found: NDArray[np.float32] = projection.transform(photos.features).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
