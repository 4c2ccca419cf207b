"""Run a session over many images, in calls of bounded size."""

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.base import Prediction
from worker.inference.session import Session

#: images of one call
BATCH = 16


def predict(session: Session, images: NDArray[np.uint8]) -> Prediction:
    """Return the prediction for uint8 [N, H, W, 3], for any N above 0."""
    return Prediction.join([session.run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])
