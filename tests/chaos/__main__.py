"""The long form of the chaos test.

Run it with `make chaos`, or `PYTHONPATH=tests python -m chaos --images 20000 --workers 3 --kills 20 --seed 1`.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from chaos.audit import Verdict
from chaos.catalog import add_poison_image, draw_catalog, sample_catalog
from chaos.cluster import Services
from chaos.display import Display
from chaos.experiment import Setup, tag_catalog
from chaos.injection import Fault

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Print a summary line. Return 1 if an image was lost, stored twice or tagged differently."""
    options = _options()
    display = Display()
    folder = options.out or Path(tempfile.mkdtemp(prefix="tagmill-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    clean = False
    try:
        verdict = _run(options, folder, display)
        clean = verdict.clean
    finally:
        if clean and not options.out:
            shutil.rmtree(folder)
        else:
            display.log(f"logs and results are in {folder}")
    display.show_verdict(verdict)
    print(verdict.line())
    return 0 if clean else 1


def _run(options: argparse.Namespace, folder: Path, display: Display) -> Verdict:
    display.log(f"making a catalog of {options.images} images")
    made = folder / "catalog"
    if options.image_folder is None:
        catalog = draw_catalog(made, options.images, options.seed)
    else:
        catalog = sample_catalog(made, options.images, options.seed, options.image_folder)
    catalog = add_poison_image(catalog, options.seed)
    setup = Setup(options.bundle, options.workers)
    with Services() as services:
        display.log_versions(services)
        undisturbed = tag_catalog(setup, catalog, services, folder / "undisturbed", display)
        faults = _faults(options.kills)
        disturbed = tag_catalog(setup, catalog, services, folder / "disturbed", display, faults, options.seed)
    return Verdict(
        disturbed=disturbed.audit,
        undisturbed=undisturbed.audit,
        faults=len(disturbed.injected) + 1,
        missed=sum(faults.values()) - len(disturbed.injected),
        identical=undisturbed.results.read_bytes() == disturbed.results.read_bytes(),
    )


def _faults(kills: int) -> dict[Fault, int]:
    return {
        Fault.KILL_WORKER: kills - kills // 4,
        Fault.KILL_BOTH: kills // 4,
        Fault.EMPTY_REDIS: 2,
        Fault.RESTART_REDIS: 1,
        Fault.RESTART_DATABASE: 1,
        Fault.TERMINATE: 1,
        Fault.FREEZE: 1,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20, help="number of SIGKILLs to workers")
    parser.add_argument("--seed", type=int, default=1, help="seed of the catalog, and of the order and times of faults")
    parser.add_argument("--image-folder", type=Path, metavar="FOLDER", help="JPEG images; drawn ones if not given")
    parser.add_argument("--bundle", type=Path, metavar="FILE.onnx", default=ROOT / "starter" / "classifier.onnx")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep logs and results there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
