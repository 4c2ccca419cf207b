"""The long form: `make fuzz`, or `PYTHONPATH=tests python -m fuzz --files 20000 --seed 1 --keep FOLDER`."""

import argparse
import sys
from pathlib import Path

from fuzz.campaign import Findings, fuzz
from fuzz.mutation import mutated


def main() -> int:
    """Print one line at the end. Return 1 if a file gave neither pixels nor an error code."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args()

    def step(findings: Findings) -> None:
        print(findings.line(), file=sys.stderr, flush=True)

    findings = fuzz(mutated(options.seed), options.files, step)
    for number, (error, data) in enumerate(findings.unexpected):
        print(f"{number}: {error}", file=sys.stderr)
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{number:04}").write_bytes(data)
    print(findings.line())
    return 1 if findings.unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
