"""Run a command and turn every expected error into an exit code and one line that says what to do."""

import logging
import os
import sys

import click
from kombu.exceptions import OperationalError as BrokerDown
from sqlalchemy.exc import DatabaseError, InterfaceError
from sqlalchemy.exc import OperationalError as DatabaseDown

from tagmill.cli.commands import COMMANDS, cli, missing_extra
from tagmill.cli.terminal.stdout import guard_stdout
from tagmill.errors import ExitCode, TagmillError, first_line
from tagmill.logs.configure import is_configured
from tagmill.text import on_terminal

log = logging.getLogger(__name__)


def run_command() -> int:
    """Run the command that sys.argv names and return its `ExitCode`. Raises KeyboardInterrupt."""
    level = os.environ.get("TAGMILL_LOG_LEVEL", "WARNING").upper()
    if level not in logging.getLevelNamesMapping():
        message = f"TAGMILL_LOG_LEVEL: {level} is none of DEBUG, INFO, WARNING, ERROR"
        return _fail(message, ExitCode.CONFIGURATION)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    guard_stdout()
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
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        command = next((word for word in sys.argv[1:] if word in COMMANDS), "")
        failure = missing_extra(command, error, COMMANDS[command].extra if command else "")
        if not isinstance(failure, TagmillError):
            raise
        return _fail(str(failure), failure.exit_code)
    except UnicodeEncodeError:
        invalid = next((word for word in sys.argv[1:] if not _is_utf8(word)), None)
        if invalid is None:
            raise
        return _fail(f"{invalid!r} is not UTF-8, which a database needs; use another name", ExitCode.USAGE)
    except BrokerDown as error:
        message = f"the broker does not answer ({first_line(error)}); check TAGMILL_BROKER_URL"
        return _fail(message, ExitCode.SERVICE_DOWN)
    except (DatabaseDown, InterfaceError) as error:
        message = f"the database does not answer ({first_line(error)}); check TAGMILL_DATABASE_URL"
        return _fail(message, ExitCode.SERVICE_DOWN)
    except DatabaseError as error:
        message = f"the database refuses ({first_line(error)}); check TAGMILL_DATABASE_URL"
        return _fail(message, ExitCode.CONFIGURATION)
    return code if isinstance(code, int) else ExitCode.DONE


def _fail(message: str, code: int) -> int:
    """Print the error, or log it if this process writes a log to a file or a pipe, and return its exit code."""
    if is_configured() and not sys.stderr.isatty():
        log.error(message, extra={"action": "ended", "exit_code": int(code)})
    else:
        click.echo(on_terminal(f"error: {message}"), err=True)
    return code


def _is_utf8(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
