"""What `tagmill train` prints: the figure of a finished training, and one line for one that was stopped."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from tagmill.errors import ConfigurationError, ExitCode


@contextmanager
def training_run(out: Path, hint: str = "the same command with --resume goes on") -> Iterator[None]:
    """Run a training. On Ctrl-C print what is left of it; remove `out` if it was created and stayed empty."""
    created = False
    with suppress(OSError):
        created = not out.exists()
    try:
        yield
    except KeyboardInterrupt:
        from training.checkpoint import FILE

        if not (out / FILE).exists():
            raise
        click.echo(f"interrupted; {out} keeps its best weights so far, which `tagmill export` takes; {hint}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
    except RuntimeError as error:
        from torch import OutOfMemoryError

        if not isinstance(error, OutOfMemoryError):
            raise
        raise ConfigurationError("the GPU has too little memory; choose a smaller --batch-size or --size") from error
    finally:
        if created:
            with suppress(OSError):
                out.rmdir()  # fails unless it is empty


def print_result(out: Path, report: dict[str, Any]) -> None:
    """Print the run folder, its headline figure and the seconds of the training."""
    names = ("accuracy", "mean_ap", "mean_iou")
    figure = next(name for name in (*names, *(f"validation_{name}" for name in names)) if name in report)
    click.echo(f"{out}: {figure.replace('_', ' ')} {report[figure]:.4f} after {report['seconds']:.0f} s")
