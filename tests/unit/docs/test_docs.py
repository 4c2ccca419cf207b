"""What the documents promise exists: commands, options, settings, modules, files, headings, error codes."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
from support.documents import (
    anchors_of,
    commands_in,
    inline_code,
    links_in,
    make_targets_in,
    python_modules_run_in,
    resolve,
)

from tagmill.cli.commands import COMMANDS
from tagmill.outcomes import ErrorCode
from tagmill.secret_files import FILE_VARIABLES
from tagmill.settings import Settings

ROOT = Path(__file__).parents[3]
#: what describes this version
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
#: CHANGELOG.md names options and settings that were renamed
ALL_DOCUMENTS = [*DOCUMENTS, ROOT / "CHANGELOG.md"]
ROOMS = ("tagmill", "producer", "worker", "training", "export")
#: dotted names that are no Python: a Celery task, the default SQLite file
NO_MODULES = {"worker.tag_batch", "tagmill.db"}
#: read by the command itself, before settings are
OTHER_VARIABLES = {"TAGMILL_LOG_LEVEL", "TAGMILL_LOG_FORMAT", "TAGMILL_USER"}
#: read by the tests and by docker-compose.yml, not by the product
OUTSIDE_VARIABLES = {"TAGMILL_TEST_REDIS_URL", "TAGMILL_TEST_DATABASE_URL", "TAGMILL_CATALOG", "TAGMILL_VERSION"}
#: that name a file with a setting's value
OF_FILES = {f"TAGMILL_{name.upper()}" for name in FILE_VARIABLES}


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_and_option_a_document_names_exists(document: Path) -> None:
    for words in commands_in(document.read_text(encoding="utf-8")):
        command, rest = resolve(words)
        if command.context_settings.get("ignore_unknown_options"):
            continue  # they are of the program that it runs
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        known = options | {"--help", "-h", "--version"}
        for word in rest:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known, f"{document.name}: tagmill {' '.join(words)}: no option {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_setting_a_document_names_exists(document: Path) -> None:
    known = {f"TAGMILL_{name.upper()}" for name in Settings.model_fields}
    known |= OTHER_VARIABLES | OUTSIDE_VARIABLES | OF_FILES
    named = set(re.findall(r"TAGMILL_[A-Z_]+[A-Z]", document.read_text(encoding="utf-8")))
    assert named <= known


@pytest.mark.parametrize("document", ALL_DOCUMENTS, ids=name_of)
def test_every_file_and_heading_a_document_links_to_exists(document: Path) -> None:
    for path, anchor in links_in(document.read_text(encoding="utf-8")):
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name} links to {path}"
        if anchor:
            known = anchors_of(target.read_text(encoding="utf-8"))
            assert anchor in known, f"{document.name} links to {path}#{anchor}, which has {sorted(known)}"


@pytest.mark.parametrize("document", ALL_DOCUMENTS, ids=name_of)
def test_every_python_file_and_folder_of_the_code_a_document_names_exists(document: Path) -> None:
    for code in inline_code(document.read_text(encoding="utf-8")):
        if re.fullmatch(r"[\w/]+\.py", code):
            found = (ROOT / code).is_file() or any((ROOT / "tests").rglob(code))
            assert found, f"{document.name} names {code}"
        elif re.fullmatch(rf"({'|'.join(ROOMS)}|tests|benchmarks|starter|docs)/(\w+/)*", code):
            assert (ROOT / code).is_dir(), f"{document.name} names {code}"


@pytest.mark.parametrize("document", ALL_DOCUMENTS, ids=name_of)
def test_every_dotted_python_name_a_document_has_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = {code for code in inline_code(text) if re.fullmatch(rf"({'|'.join(ROOMS)})(\.\w+)+", code)}
    named |= {f"{module}.{name}" for module, name in re.findall(r"^from ([\w.]+) import (\w+)", text, flags=re.M)}
    for name in named - NO_MODULES:
        module, attributes = name, []
        while importlib.util.find_spec(module.partition(".")[0]) is None or not is_module(module):
            module, _, attribute = module.rpartition(".")
            assert module, f"{document.name} names {name}"
            attributes.insert(0, attribute)
        found: object = importlib.import_module(module)
        for attribute in attributes:
            assert hasattr(found, attribute), f"{document.name} names {name}"
            found = getattr(found, attribute)


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what stands before the last dot is a module, and no package
        return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_module_a_document_runs_exists_and_has_the_options(document: Path) -> None:
    for module, options in python_modules_run_in(document.read_text(encoding="utf-8")):
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"{document.name}: python -m {module}"
        if spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
            assert spec is not None, f"{document.name}: python -m {module} has no __main__"
        assert spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        for option in options:
            assert f'"{option}"' in source, f"{document.name}: python -m {module} has no {option}"


@pytest.mark.parametrize("document", ALL_DOCUMENTS, ids=name_of)
def test_every_make_target_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    assert set(make_targets_in(document.read_text(encoding="utf-8"))) <= targets


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.+)$", makefile, flags=re.M)
    told = set(re.findall(r'@echo "make (\w+)', makefile))
    assert told == set(targets.split()) - {"help", "lint"}


def linked_from(document: Path) -> set[Path]:
    links = links_in(document.read_text(encoding="utf-8"))
    return {(document.parent / path).resolve() for path, _ in links if path}


def test_the_readme_and_the_start_page_of_the_site_lead_to_every_document() -> None:
    operations = linked_from(ROOT / "docs" / "operations.md")
    for start in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        linked = linked_from(start) | operations
        assert set(ALL_DOCUMENTS) - {ROOT / "docs" / "index.md", ROOT / "README.md"} <= linked, start.name


def test_the_menu_of_the_site_has_every_document() -> None:
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    menu = " ".join(re.findall(r"```\{toctree\}(.*?)```", start, flags=re.S)).split()
    folder = ROOT / "docs"
    documents = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.md")} - {"index"}
    assert documents - set(menu) == set()


def test_the_page_of_commands_has_every_command_once() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. click:: ([\w.]+):(\w+)\n   :prog: tagmill (\w+)$", page, flags=re.M)
    assert sorted(shown) == sorted((entry.module, name, name) for name, entry in COMMANDS.items())


def test_the_documented_options_of_the_recipes_are_what_the_networks_are_trained_with() -> None:
    from training.loop.augment import STRENGTHS
    from training.models.classifiers import Arch
    from training.recipes import cnn, segment, transfer

    guide = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("## Options")[2]
    table = {name: cells.split("|") for name, cells in re.findall(r"^\| `--([\w-]+)` \|(.+)\|$", guide, flags=re.M)}
    networks = [
        *(cnn.DEFAULTS[arch] for arch in (Arch.MLP, Arch.SIMPLE_CNN, Arch.RESNET, Arch.AIRBENCH)),
        transfer.DEFAULTS,
        transfer.LITE_DEFAULTS,
    ]
    networks += [segment.DEFAULTS, segment.CONTEXT_DEFAULTS, segment.PYRAMID_DEFAULTS]  # type: ignore[list-item]  # all have what is asked for
    assert len(table) == 14
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
