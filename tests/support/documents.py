"""Find what a document names: commands, modules, files, links, headings."""

import re
import shlex

import click

from tagmill.cli.commands import cli


def commands_in(text: str) -> list[list[str]]:
    """Return the words of every `tagmill ...` command in code blocks and inline code."""
    lines = [line for block in _blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(tagmill [^`\n]+)`", text)
    # `kubectl -n tagmill` names a namespace
    found = re.findall(r"(?:^|(?<!-n)[\s&;(/])tagmill ((?:[a-z]+)(?: [^#\n&;|)]*)?)", "\n".join(lines))
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


def code_in(text: str) -> str:
    """Return the code blocks and the inline code of a document, one a line."""
    return "\n".join([*(block.replace("\\\n", " ") for block in _blocks(text)), *inline_code(text)])


def inline_code(text: str) -> list[str]:
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return re.findall(r"`([^`]+)`", outside)


def python_modules_run_in(text: str) -> list[tuple[str, list[str]]]:
    """Return the module and the options of every `python -m MODULE ...`."""
    found = re.findall(r"python[\d.]* -m ([\w.]+)([^#\n&;|>]*)", code_in(text))
    return [(module, re.findall(r"(?<!\S)--[a-z][\w-]*", words)) for module, words in found]


def make_targets_in(text: str) -> list[str]:
    return re.findall(r"(?:^|[\s;&])make ([a-z][\w-]*)", code_in(text), flags=re.M)


def redis_users_in(text: str) -> str:
    """Return the lines of users in an ACL file of Redis or in sentinel.conf."""
    return "".join(f"{line}\n" for line in re.findall(r"^user .+$", text, flags=re.M))


def links_in(text: str) -> list[tuple[str, str]]:
    """Return path and anchor of every link inside the repository; the path is empty for a link within the document."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    targets = re.findall(r"\]\(([^)\s]+)\)", outside)
    parts = [target.partition("#") for target in targets if "://" not in target and not target.startswith("mailto:")]
    return [(path, anchor) for path, _, anchor in parts]


def anchors_of(text: str) -> set[str]:
    """Return the anchors that GitHub, and the documentation site with it, gives to the headings of a document."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", outside, flags=re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        same = sum(anchor == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", anchor) is not None for anchor in anchors)
        anchors.add(f"{slug}-{same}" if same else slug)
    return anchors


def _blocks(text: str) -> list[str]:
    return re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.S)
