"""What the documents promise exists: commands, options, settings, files, error codes."""

import re
from pathlib import Path

import pytest
from support.documents import commands_in, resolve

from tagmill.cli.commands import COMMANDS
from tagmill.outcomes import ErrorCode
from tagmill.settings import Settings

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
#: read by the command itself, before settings are
OTHER_VARIABLES = {"TAGMILL_LOG_LEVEL"}
#: read by the tests and by docker-compose.yml, not by the product
OUTSIDE_VARIABLES = {"TAGMILL_TEST_REDIS_URL", "TAGMILL_TEST_DATABASE_URL", "TAGMILL_CATALOG"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_a_document_names_exists(document: Path) -> None:
    for words in commands_in(document.read_text(encoding="utf-8")):
        command, rest = resolve(words)
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--version"}
        for word in rest:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known, f"{document.name}: tagmill {' '.join(words)}: no option {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_a_document_names_exists(document: Path) -> None:
    known = {f"TAGMILL_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES | OUTSIDE_VARIABLES
    named = set(re.findall(r"TAGMILL_[A-Z_]+[A-Z]", document.read_text(encoding="utf-8")))
    assert named <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_a_document_links_to_exists(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("path", re.findall(r"`([a-z]+/[a-z_/]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text()))
def test_every_module_the_architecture_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()


def test_the_documented_options_of_the_recipes_are_what_the_networks_are_trained_with() -> None:
    from training.loop.augment import STRENGTHS
    from training.models.classifiers import Arch
    from training.recipes import cnn, segment, transfer

    guide = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("## Options")[2]
    table = {name: cells.split("|") for name, cells in re.findall(r"^\| `--([\w-]+)` \|(.+)\|$", guide, flags=re.M)}
    networks = [
        *(cnn.DEFAULTS[arch] for arch in (Arch.MLP, Arch.SIMPLE_CNN, Arch.RESNET, Arch.AIRBENCH)),
        transfer.DEFAULTS,
    ]
    networks += [segment.DEFAULTS, segment.CONTEXT_DEFAULTS]  # type: ignore[list-item]  # all have what is asked for
    assert len(table) == 10
    for name, cells in table.items():
        for hyper, cell in zip(networks, map(str.strip, cells), strict=True):
            attribute = name.replace("-", "_")
            if name == "augment" and cell not in {"", "its own"}:
                assert hyper.augmentation == STRENGTHS[cell], name  # type: ignore[index]  # a StrEnum is its text
            elif cell and name != "augment":
                real = getattr(hyper, attribute, None)
                real = getattr(hyper.loop, attribute, None) if real is None else real
                assert cell == str(real) or float(cell) == real, name


def test_every_command_has_help_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        command, _ = resolve([name])
        assert command.help, f"tagmill {name} has no help"
        assert re.search(rf"tagmill {name}\b", readme), f"tagmill {name} is not in README.md"
        for inner in getattr(command, "commands", {}).values():
            assert inner.help, f"tagmill {name} {inner.name} has no help"


def test_every_setting_and_error_code_is_explained() -> None:
    guide = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", guide, flags=re.M)
    settings = {f"TAGMILL_{name.upper()}" for name in Settings.model_fields}
    assert set(explained) == settings | OTHER_VARIABLES | set(ErrorCode)


def test_the_documents_say_of_each_code_whether_it_is_worth_another_try() -> None:
    guide = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for code in ErrorCode:
        (said,) = re.findall(rf"^\| `{code}` \|.*\| (.+) \|$", guide, flags=re.M)
        assert (said == "no") == (not code.worth_retrying), code


def test_the_documented_defaults_are_the_real_ones() -> None:
    guide = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `TAGMILL_(\w+)` \| `?([^`|]+?)`? \|", guide, flags=re.M))
    for name, field in Settings.model_fields.items():
        said = documented[name.upper()]
        assert said == "none" if field.default == () else str(field.default).lower().removesuffix(".0") == said, name
