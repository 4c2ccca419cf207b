"""How a command ends: with its exit code, and where it went wrong with one line that says what to do."""

import logging
import os
import sys

import click
from kombu.exceptions import OperationalError as BrokerDown
from sqlalchemy.exc import DatabaseError, InterfaceError
from sqlalchemy.exc import OperationalError as DatabaseDown

from tagmill.cli.commands import COMMANDS, cli, missing_extra
from tagmill.cli.stdout import guard_output
from tagmill.errors import ExitCode, TagmillError, first_line


def run_to_end() -> int:
    """Run the command that sys.argv names; return the exit code of `tagmill.errors`. Raises KeyboardInterrupt."""
    level = os.environ.get("TAGMILL_LOG_LEVEL", "WARNING").upper()
    if level not in logging.getLevelNamesMapping():
        message = f"error: TAGMILL_LOG_LEVEL: {level} is none of DEBUG, INFO, WARNING, ERROR"
        return _said(message, ExitCode.CONFIGURATION)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    guard_output()
    try:
        code = cli.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TagmillError as error:
        return _said(f"error: {error}", error.exit_code)
    except ModuleNotFoundError as error:
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "")
        failure = missing_extra(command, error, COMMANDS[command][2] if command else "")
        if not isinstance(failure, TagmillError):
            raise
        return _said(f"error: {failure}", failure.exit_code)
    except UnicodeEncodeError:
        foreign = next((word for word in sys.argv[1:] if not _is_utf8(word)), None)
        if foreign is None:
            raise
        return _said(f"error: {foreign!r} is not UTF-8, which a database needs; use another name", ExitCode.USAGE)
    except BrokerDown as error:
        message = f"error: the broker does not answer ({first_line(error)}); check TAGMILL_BROKER_URL"
        return _said(message, ExitCode.SERVICE_DOWN)
    except (DatabaseDown, InterfaceError) as error:
        message = f"error: the database does not answer ({first_line(error)}); check TAGMILL_DATABASE_URL"
        return _said(message, ExitCode.SERVICE_DOWN)
    except DatabaseError as error:
        message = f"error: the database refuses ({first_line(error)}); check TAGMILL_DATABASE_URL"
        return _said(message, ExitCode.CONFIGURATION)
    return code if isinstance(code, int) else ExitCode.DONE


def _said(message: str, code: int) -> int:
    click.echo(message, err=True)
    return code


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
