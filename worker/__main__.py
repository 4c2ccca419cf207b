"""Run Celery's commands with Tagmill's application: `python -P -m worker worker`, as `celery -A worker worker` does.

Unlike that command, it imports nothing from the working directory.
"""

import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

#: name under which the command shows itself in its help
PROGRAM = "tagmill celery"


def run_celery(arguments: Sequence[str], **options: Any) -> Any:
    """Run a command of Celery. `options` are those of `click.Command.main`."""
    words = list(arguments)
    # What imports create stays: to search it for garbage takes a fifth of the start.
    gc.disable()
    import tagmill.broker.app  # noqa: F401 - keeps Celery from importing modules of the working directory

    if words[:1] == ["worker"]:
        return _run_worker(words[1:], **options)
    from celery.bin.celery import celery

    gc.enable()
    if words[:1] == ["flower"] and not any(word.startswith(("--conf", "-conf")) for word in words):
        # Flower runs a file `flowerconfig.py` of the working directory.
        words.append("--conf=/dev/null")
    return celery.main(["-A", "worker", *words], prog_name=PROGRAM, **options)


def _run_worker(arguments: Sequence[str], **options: Any) -> Any:
    """Run the command `worker` alone: Celery's other commands load Flower and a prompt, half a second of a core."""
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    from worker.celery import app

    gc.enable()
    context = CLIContext(app=app, no_color=bool(os.environ.get("NO_COLOR")), workdir=None)
    return worker.main(list(arguments), prog_name=f"{PROGRAM} worker", obj=context, **options)


if __name__ == "__main__":
    run_celery(sys.argv[1:])
