"""Where commands write for people: a path or a name is shown as it is, where rich would read [red] or :cat: in it."""

from rich.console import Console
from rich.progress import TextColumn


def open_console(*, stderr: bool = False, highlight: bool = True) -> Console:
    """Return a console that knows no markup, in the cells and titles of tables neither. Styles are for rich.text.Text.

    What is moving is not covered: a status must be given a rich.text.Text, and a progress bar `text_column`.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=highlight)


def text_column(template: str) -> TextColumn:
    """Return a column of a progress bar that knows no markup."""
    return TextColumn(template, markup=False)
