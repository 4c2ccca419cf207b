"""Temperature and threshold of a label set, from examples that were left out while it was fitted.

With up to ten examples a category, each is left out once, beside one of every other category; of more, a tenth at a
time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tagmill.labelsets.gaussians import Examples, fit_gaussians
from tagmill.labelsets.label_set import Threshold, softmax, squared_distances

#: parts that the examples of a category are left out in
FOLDS = 10
#: temperature where nothing can be left out, because no category has a second example
DEFAULT_TEMPERATURE = 12.0
_TEMPERATURES = np.geomspace(0.1, 1000, 161)


@dataclass(frozen=True)
class HeldOut:
    """Squared distances of examples, float32 [N, labels], by label sets that lack them; `targets` int64 [N]."""

    distances: NDArray[np.float32]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def accuracy(self) -> float:
        """Return the share of the examples whose nearest category is their own."""
        return float((self.distances.argmin(axis=1) == self.targets).mean())

    def temperature(self) -> float:
        """Return the temperature of the greatest likelihood (Guo et al. 2017, arXiv 1706.04599)."""
        rows = np.arange(len(self))

        def loss(temperature: float) -> float:
            scores = softmax(-self.distances / (2 * np.float32(temperature)))[rows, self.targets]
            return -float(np.log(np.maximum(scores, 1e-12)).mean())

        return float(min(_TEMPERATURES, key=loss))

    def threshold(self, rate: float) -> Threshold:
        """Return the distance that a share `rate` of the examples is beyond."""
        return Threshold(float(np.quantile(self.distances.min(axis=1), 1 - rate, method="higher")), rate)


def hold_out(examples: Examples, catalog: NDArray[np.float32]) -> HeldOut:
    """Leave examples out in turn and return what the others say of them; empty if no category has two examples."""
    turns = _turns(examples)
    distances, targets = [np.zeros((0, len(examples.counts)), np.float32)], [np.zeros(0, np.int64)]
    for turn in range(turns.max() + 1):
        out = turns == turn
        fitted = fit_gaussians(examples.at(~out), catalog)
        distances.append(squared_distances(examples.vectors[out] @ fitted.projection, fitted.prototypes))
        targets.append(examples.targets[out])
    return HeldOut(np.concatenate(distances), np.concatenate(targets))


def _turns(examples: Examples) -> NDArray[np.int64]:
    """Return when each example is left out, int64 [N]; -1 for the only one of its category, which never is."""
    turns = np.full(len(examples.targets), -1)
    for number, count in enumerate(examples.counts):
        if count > 1:
            turns[examples.targets == number] = np.arange(count) % min(count, FOLDS)
    return turns
