"""Measure how well a drawn garment is told to be plain or patterned.

`python -m benchmarks.images.attributes --images 400` draws garments of the sample catalog, each of a cloth whose
pattern is chosen: plain in half of them. The true mask is the product. Half of the images choose the threshold, the
others are measured.
"""

import argparse
from unittest.mock import patch

import numpy as np

from benchmarks.support.machine import machine
from tagmill.images.preprocess import content_box, fit
from tagmill.sample.drawing import fabric
from tagmill.sample.item import CATEGORIES, draw_item
from worker.pictures.measure import PIXELS
from worker.pictures.pattern import _EVEN, step_share
from worker.pictures.product import MASK, Product, _box


def shares(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of pixels with a step of each garment, and whether its cloth is patterned."""
    rng = np.random.default_rng(seed)
    patterned = [name for name in fabric.PATTERNS if name != "plain"]
    found, true = [], []
    for number in range(images):
        chosen = patterned[number // 2 % len(patterned)] if number % 2 else "plain"
        drawing = dict.fromkeys(fabric.PATTERNS, fabric.PATTERNS[chosen])
        with patch.dict(fabric.PATTERNS, drawing):
            item = draw_item(CATEGORIES[number % len(CATEGORIES)], rng, transparent=False)
        width, height = item.image.size
        left, top, right, bottom = content_box(width, height, PIXELS)
        rgb = fit(np.asarray(item.image.convert("RGB")), PIXELS)[top:bottom, left:right]
        mask = np.repeat((item.mask > 0).astype(np.uint8)[..., None], 3, axis=2) * np.uint8(255)
        inside = fit(mask, PIXELS)[top:bottom, left:right, 0] > 127
        share = step_share(np.ascontiguousarray(rgb), Product(MASK, inside, _box(inside)))
        if share is not None:
            found.append(share)
            true.append(chosen != "plain")
    return np.array(found), np.array(true)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    options = parser.parse_args()
    print(machine())
    choosing, true = shares(options.images // 2, 1)
    limits = np.unique(choosing)
    right = [((choosing >= limit) == true).mean() for limit in limits]
    limit = limits[int(np.argmax(right))]
    measured, true = shares(options.images // 2, 2)
    print(f"threshold {limit:.3f}, right there {max(right):.3f} of {len(choosing)}")
    print(f"right {((measured >= limit) == true).mean():.3f} of {len(measured)}")
    print(f"with the threshold of the product: {((measured >= _EVEN) == true).mean():.3f}")
    for name, chosen in (("plain", ~true), ("patterned", true)):
        print(f"{name}: {np.quantile(measured[chosen], (0.1, 0.5, 0.9)).round(3)}")


if __name__ == "__main__":
    main()
