"""Choose the golden samples of a bundle: real images of several labels, of those the least certain."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.proof.predict import answers
from tagmill.bundles.golden import GoldenSamples
from tagmill.tasks.base import Prediction, Task
from worker.inference.session import Session

#: images that travel within a bundle
COUNT = 4
#: bytes of text that they may take, and at most this share of the graph
LARGEST, SHARE = 200_000, 0.03
#: colors of an image that takes too much room: less, and less again
COLORS = (256, 64, 32, 16)


def golden_samples(session: Session, images: NDArray[np.uint8], graph_bytes: int) -> GoldenSamples:
    """Return some of uint8 [N, H, W, 3] with what the session answers to them.

    Images that take too much room lose colors, and at last their number.
    """
    chosen = images[_spread(answers(session, images), session.spec.task)]
    room = min(LARGEST, int(SHARE * graph_bytes))
    samples = _answered(session, chosen)
    for colors in COLORS:
        if len(samples.to_text()) <= room:
            break
        samples = _answered(session, np.stack([_painted(image, colors) for image in chosen]))
    while len(samples.to_text()) > room and len(samples.images) > 1:
        samples = _answered(session, samples.images[:-1])
    return samples


def _painted(image: NDArray[np.uint8], colors: int) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3] in the colors that suit it best, with no dither, which would not compress."""
    palette = Image.fromarray(image).quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(palette.convert("RGB"))


def _answered(session: Session, images: NDArray[np.uint8]) -> GoldenSamples:
    found = session.run(images)
    return GoldenSamples(images, found.scores, found.mask)


def _spread(found: Prediction, task: Task) -> list[int]:
    """Return the positions of images of labels that lie far apart; the least certain of each, as they tell most.

    An image counts as one of the label that stands for it: see `Task.main_labels`.
    """
    own = task.main_labels(found)
    certain = np.argsort(found.scores[np.arange(len(own)), own], kind="stable").tolist()
    present = np.unique(own)
    chosen: list[int] = []
    for label in present[np.linspace(0, len(present) - 1, COUNT).round().astype(int)]:
        chosen += [place for place in certain if own[place] == label and place not in chosen][:1]
    return chosen + [place for place in certain if place not in chosen][: COUNT - len(chosen)]
