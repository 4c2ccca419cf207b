"""The console of all commands. It prints paths and names as text, where rich would interpret [red] or :cat:, and a
terminal what it is told by a control character in a name."""

import os
from typing import Any

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.text import Text

from tagmill.text import on_terminal

#: columns of a file or a pipe: each row of a table is one line
_UNLIMITED = 100_000


class _TextConsole(Console):
    def render_str(self, text: str, **how: Any) -> Text:
        """Return the text of a line, a cell or a title."""
        rendered = super().render_str(on_terminal(text), **how)
        # A table would cut a long word in a cell.
        rendered.overflow = rendered.overflow or "fold"
        return rendered


class _PlainColumn(TextColumn):
    def render(self, task: Task) -> Text:
        """Return the cell of a bar."""
        text = super().render(task)
        text.plain = on_terminal(text.plain)
        return text


def open_console(*, stderr: bool = False, highlight: bool = True) -> Console:
    """Return a console that ignores markup and control characters, also in tables. For styles pass a rich.text.Text.

    It cuts nothing: a terminal folds long words, and elsewhere stdout has no width unless COLUMNS gives one.
    Live displays are not covered: pass a rich.text.Text to a status, and `text_column` to a progress bar.
    """
    console = _TextConsole(stderr=stderr, markup=False, emoji=False, highlight=highlight)
    if not (stderr or console.is_terminal or "COLUMNS" in os.environ):
        console.width = _UNLIMITED
    return console


def text_column(template: str) -> TextColumn:
    """Return a column of a progress bar that ignores markup and control characters."""
    return _PlainColumn(template, markup=False)
