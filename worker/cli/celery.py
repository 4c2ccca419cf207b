"""`tagmill celery`: run a command of Celery or Flower with Tagmill's application."""

import click

from worker.__main__ import run_celery

#: the others are not for these workers: they schedule, spawn, or open a shell in the working directory
COMMANDS = ("flower", "inspect", "status", "worker")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", type=click.Choice(COMMANDS))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def celery(command: str, arguments: tuple[str, ...]) -> int:
    """Run a command of Celery: flower, inspect, status, or worker, which starts a worker with no supervisor.

    Unlike `celery -A worker`, it runs no code of the working directory. `tagmill celery COMMAND --help` lists the
    command's arguments.
    """
    code = run_celery([command, *arguments], standalone_mode=False)
    return code if isinstance(code, int) else 0
