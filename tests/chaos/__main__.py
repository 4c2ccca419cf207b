"""The long form: `make chaos`, or `PYTHONPATH=tests python -m chaos --images 20000 --workers 3 --kills 20 --seed 1`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from chaos.account import Verdict
from chaos.catalog import chosen_catalog, drawn_catalog, poisoned
from chaos.cluster import Services
from chaos.display import Display
from chaos.experiment import Setup, tag_catalog
from chaos.injection import Fault

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Print one line at the end; 1 where an image was lost, doubled or came out otherwise."""
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
            display.say(f"logs and results are in {folder}")
    display.verdict(verdict)
    print(verdict.line())
    return 0 if clean else 1


def _run(options: argparse.Namespace, folder: Path, display: Display) -> Verdict:
    display.say(f"making a catalog of {options.images} images")
    made = folder / "catalog"
    if options.pictures is None:
        catalog = drawn_catalog(made, options.images, options.seed)
    else:
        catalog = chosen_catalog(made, options.images, options.seed, options.pictures)
    catalog = poisoned(catalog, options.seed)
    setup = Setup(options.bundle, options.workers)
    with Services() as services:
        display.facts(services)
        calm = tag_catalog(setup, catalog, services, folder / "undisturbed", display)
        faults = _faults(options.kills)
        wild = tag_catalog(setup, catalog, services, folder / "disturbed", display, faults, options.seed)
    return Verdict(
        disturbed=wild.account,
        undisturbed=calm.account,
        faults=len(wild.injected) + 1,
        missed=sum(faults.values()) - len(wild.injected),
        identical=calm.results.read_bytes() == wild.results.read_bytes(),
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
    parser.add_argument("--kills", type=int, default=20, help="times that a worker gets SIGKILL")
    parser.add_argument("--seed", type=int, default=1, help="draws the catalog, and the order and moments of faults")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="JPEG images; drawn ones where not given")
    parser.add_argument("--bundle", type=Path, metavar="FILE.onnx", default=ROOT / "starter" / "classifier.onnx")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep logs and results there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
