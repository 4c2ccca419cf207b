"""Find the commands that a document names."""

import re
import shlex

import click

from tagmill.cli.commands import cli


def commands_in(text: str) -> list[list[str]]:
    """Return the words of every `tagmill ...` command in code blocks and inline code."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(tagmill [^`\n]+)`", text)
    found = re.findall(r"(?:^|[\s&;(/])tagmill ((?:[a-z]+)(?: [^#\n&;|)]*)?)", "\n".join(lines))
    return [shlex.split(words.replace("...", "")) for words in found]


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words name, and the words after its name."""
    command: click.Command = cli
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        context = click.Context(command)
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"there is no command `tagmill {' '.join(words)}`"
        command, rest = inner, rest[1:]
    return command, rest
