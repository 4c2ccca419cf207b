"""What a bundle's session answers to many images, in calls of bounded size."""

import numpy as np
from numpy.typing import NDArray

from tagmill.tasks.base import Prediction
from worker.inference.session import Session

#: images of one call
BATCH = 16


def answers(session: Session, images: NDArray[np.uint8]) -> Prediction:
    """Infer uint8 [N, H, W, 3]; N is not bounded."""
    found = [session.run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    masks = [part.mask for part in found if part.mask is not None]
    return Prediction(np.concatenate([part.scores for part in found]), np.concatenate(masks) if masks else None)
