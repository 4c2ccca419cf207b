"""The console of all commands. It prints paths and names unchanged, where rich would interpret [red] or :cat:."""

from rich.console import Console
from rich.progress import TextColumn


def open_console(*, stderr: bool = False, highlight: bool = True) -> Console:
    """Return a console that ignores markup, also in tables. For styles pass a rich.text.Text.

    Live displays are not covered: pass a rich.text.Text to a status, and `text_column` to a progress bar.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=highlight)


def text_column(template: str) -> TextColumn:
    """Return a column of a progress bar that ignores markup."""
    return TextColumn(template, markup=False)
