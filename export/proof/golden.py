"""Choose the golden samples of a bundle: real images of several labels, the least certain one of each."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.proof.predict import predict
from tagmill.bundles.golden import GoldenSamples
from tagmill.tasks.base import Prediction, Task
from worker.inference.session import Session

#: images stored in a bundle
SAMPLES = 4
#: largest text of all samples in bytes, and as a share of the graph
MAX_BYTES, MAX_SHARE = 200_000, 0.03
#: colors of the images if the text is too large, tried in this order
COLORS = (256, 64, 32, 16)


def golden_samples(session: Session, images: NDArray[np.uint8], graph_bytes: int) -> GoldenSamples:
    """Return some of uint8 [N, H, W, 3], with the session's predictions for them.

    If their text is too large, first reduce the colors of the images, then the number of images.
    """
    chosen = images[_choose(predict(session, images), session.spec.task)]
    limit = min(MAX_BYTES, int(MAX_SHARE * graph_bytes))
    samples = _with_predictions(session, chosen)
    for colors in COLORS:
        if len(samples.to_text()) <= limit:
            break
        samples = _with_predictions(session, np.stack([_reduce_colors(image, colors) for image in chosen]))
    while len(samples.to_text()) > limit and len(samples.images) > 1:
        samples = _with_predictions(session, samples.images[:-1])
    return samples


def _reduce_colors(image: NDArray[np.uint8], colors: int) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3] in its most suitable `colors`, without dithering, which compresses badly."""
    palette = Image.fromarray(image).quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(palette.convert("RGB"))


def _with_predictions(session: Session, images: NDArray[np.uint8]) -> GoldenSamples:
    prediction = session.run(images)
    embedding = None if prediction.embedding is None else prediction.embedding.astype(np.float16)
    return GoldenSamples(images, prediction.scores, prediction.mask, embedding)


def _choose(prediction: Prediction, task: Task) -> list[int]:
    """Return the positions of SAMPLES images: the least certain one of labels spread over all labels.

    The least certain image shows a deviation most clearly. The label of an image is that of `Task.main_labels`.
    """
    if not prediction.scores.shape[1]:  # it gives no labels
        return [int(place) for place in np.unique(np.linspace(0, len(prediction.scores) - 1, SAMPLES).round())]
    labels = task.main_labels(prediction)
    least_certain_first = np.argsort(prediction.scores[np.arange(len(labels)), labels], kind="stable").tolist()
    present = np.unique(labels)
    chosen: list[int] = []
    for label in present[np.linspace(0, len(present) - 1, SAMPLES).round().astype(int)]:
        chosen += [place for place in least_certain_first if labels[place] == label and place not in chosen][:1]
    return chosen + [place for place in least_certain_first if place not in chosen][: SAMPLES - len(chosen)]
