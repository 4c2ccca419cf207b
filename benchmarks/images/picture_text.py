"""Measure how surely text on pictures is found, and how often where there is none.

`python -m benchmarks.images.picture_text --photos FOLDER... --count 200` draws words on photos, each in one of ten
fonts, as `benchmarks.support.drawn_text` says, and looks for text on both. A photo counts as a false alarm if text is
found on it as it is. Many photos of clothing do show text: prints, labels, the date of the camera. `--own FILE` names
photos on which a person saw text, one a line: they are left out. `--list` prints the photos with false alarms, to look
at.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmarks.support.copies import shuffled
from benchmarks.support.drawn_text import FONTS, draw_text, font_files
from benchmarks.support.machine import machine
from tagmill.images.preprocess import fit
from tagmill.records import ImageRow
from worker.pictures.text_detector import TEXT_PIXELS, find_text, load_detector


def has_text(image: Image.Image) -> bool:
    """Return whether text is found on a picture."""
    facts = ImageRow("", image.width, image.height, "JPEG", 0)
    return find_text(load_detector(), fit(np.asarray(image), TEXT_PIXELS), facts).boxes > 0


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of JPEG files")
    parser.add_argument("--own", type=Path, help="names of photos that show text themselves")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print the photos with false alarms")
    options = parser.parse_args()
    print(machine(), flush=True)
    own = set(options.own.read_text().split()) if options.own else set()
    paths = [Path(path) for path in shuffled(options.photos, options.seed)][: options.count]
    rng, fonts = np.random.default_rng(options.seed), font_files()
    found: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    alarms, clean = [], 0
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            photo = ImageOps.exif_transpose(opened).convert("RGB")
        font = FONTS[number % len(FONTS)]
        with_text = draw_text(photo, fonts[number % len(FONTS)], rng)
        if path.name in own:
            continue
        clean += 1
        drawn[font] += 1
        found[font] += has_text(with_text)
        if has_text(photo):
            alarms.append(path)
    print(f"recall {found.total() / drawn.total():.3f} of {drawn.total()}, {len(paths) - clean} photos left out")
    print(f"false alarms {len(alarms) / clean:.3f} of {clean}")
    for font in FONTS:
        print(f"{font}: {found[font]} of {drawn[font]}")
    for path in alarms if options.list else ():
        print(path)


if __name__ == "__main__":
    main()
