"""ARCHITECTURE.md names packages, files, modules and symbols that exist, and imports point down in its trees.

A path in code, inline or in a block, must exist. Folders that are planned or gone are in italics, and a part that the
reader fills in is in angle brackets, as in `tasks/<task>.py`.
"""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import code_in, inline_code

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ROOMS = ("tagmill", "producer", "worker", "training", "export")


def section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def behaviors() -> list[tuple[str, str, list[str]]]:
    """Return what is looked for, the module's path, and its symbols, of each row of the table."""
    rows = [line.strip("| ").split(" | ") for line in section("Where is ...?").splitlines() if line.startswith("| ")]
    return [(what, path.strip("`"), re.findall(r"`([^`]+)`", symbols)) for what, path, symbols in rows[1:]]


def tree_of(room: str) -> list[str]:
    """Return the paths in the tree of a package, in its order; folders end in a slash."""
    (block,) = re.findall(rf"^```text\n{room}/\n(.*?)^```", TEXT, flags=re.S | re.M)
    paths: list[str] = []
    folders = [f"{room}/"]
    for line in block.splitlines():
        indent, name = re.match(r"( +)(\S+) ", line).groups()  # type: ignore[union-attr]  # each line names a path
        folders[len(indent) // 2 :] = [name]
        paths.append("".join(folders))
    return paths


def test_the_table_has_thirty_behaviors_each_once() -> None:
    assert len(behaviors()) == 30
    assert len({what for what, _, _ in behaviors()}) == 30


@pytest.mark.parametrize(("what", "path", "symbols"), behaviors(), ids=lambda value: str(value).replace("/", "."))
def test_every_module_and_symbol_of_the_table_can_be_imported(what: str, path: str, symbols: list[str]) -> None:
    assert path.endswith(".py"), what
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert symbols, what
    for symbol in symbols:
        found = getattr(module, symbol)
        assert getattr(found, "__module__", module.__name__) in {module.__name__, None} or isinstance(found, dict), (
            f"{path} only imports {symbol}"
        )


def test_every_file_and_folder_that_is_named_exists() -> None:
    without_trees = re.sub(rf"^```text\n(?:{'|'.join(ROOMS)})/\n.*?^```", "", TEXT, flags=re.S | re.M)
    named = {path for room in ROOMS for path in tree_of(room)}
    named |= set(re.findall(r"(?<![\w/.<-])(?:[\w.-]+/)+[\w.-]*(?![\w/>])", code_in(without_trees)))
    named |= {code for code in inline_code(TEXT) if re.fullmatch(r"[\w.-]+\.(?:py|md|toml|yml)", code)}
    assert len(named) > 80
    for path in sorted(named - {"cli/"}):  # `cli/<command>.py`, in any of the packages
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path


@pytest.mark.parametrize("room", ROOMS)
def test_the_tree_names_every_package_and_every_module_beside_them(room: str) -> None:
    packages = {f"{file.parent.relative_to(ROOT)}/" for file in (ROOT / room).glob("*/**/__init__.py")}
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / room).glob("*.py") if file.name != "__init__.py"}
    assert sorted(tree_of(room)) == sorted(packages | modules)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down_in_the_tree(room: str) -> None:
    order = [path.split("/")[1].removesuffix(".py") for path in tree_of(room) if path.rstrip("/").count("/") == 1]
    for file in (ROOT / room).rglob("*.py"):
        path = file.relative_to(ROOT)
        if path.parts[1] == "__init__.py":
            continue
        place = order.index(path.parts[1].removesuffix(".py"))
        for imported in imports_of(file):
            parts = imported.split(".")
            if parts[0] == room and len(parts) > 1:
                assert order.index(parts[1]) >= place, f"{path} imports {imported}"


def imports_of(file: Path) -> list[str]:
    """Return the modules that a file imports anywhere."""
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_room = node.module in ROOMS
            found += [f"{node.module}.{alias.name}" for alias in node.names] if is_room else [node.module]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_says_in_one_sentence_what_it_is_for_and_imports_nothing(room: str) -> None:
    for file in (ROOT / room).rglob("__init__.py"):
        module = ast.parse(file.read_text(encoding="utf-8"))
        said = ast.get_docstring(module) or ""
        assert re.fullmatch(r"[A-Z`].*\.", said), f"{file.parent.relative_to(ROOT)}: {said}"
        assert ". " not in said, f"{file.parent.relative_to(ROOT)}: {said}"
        if file != ROOT / "producer" / "__init__.py":  # it names what Python programs import
            assert len(module.body) == 1, f"{file.relative_to(ROOT)} is more than its docstring"


def test_the_functions_for_python_programs_are_imported_when_they_are_used() -> None:
    code = (
        "import sys, producer; print(sorted(name for name in sys.modules if name.startswith(('producer.', 'tagmill'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    import producer

    assert all(callable(getattr(producer, name)) for name in producer.__all__)


def test_the_exit_codes_are_the_real_ones() -> None:
    from tagmill.errors import ExitCode

    assert [int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), flags=re.M)] == list(ExitCode)


def test_the_celery_settings_are_the_real_ones() -> None:
    from tagmill.broker.app import make_app
    from tagmill.settings import Settings

    conf = make_app(Settings(broker_url="redis://localhost/0")).conf
    table = section("The worker process").partition("| setting | because |")[2]
    for name, value in re.findall(r"`(\w+)=([^`]+)`", table.replace("|", "\n")):
        real = conf.broker_transport_options[name] if name == "visibility_timeout" else conf[name]
        assert real == ast.literal_eval(value), name
    for name in ("task_ignore_result", "task_acks_late", "task_acks_on_failure", "task_reject_on_worker_lost"):
        assert f"`{name}`" in table
        assert conf[name] is True
    assert "retry_on_timeout" not in conf.broker_transport_options


def test_a_stage_of_the_batch_fills_in_fields_that_an_image_has() -> None:
    from worker.pipeline.batch_image import BatchImage

    table = section("The path of one image").partition("| stage | fills in |\n")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", line)}
    assert named == set(BatchImage.__dataclass_fields__)


def test_the_walk_names_functions_that_their_modules_have() -> None:
    """Each step names a function, and `in` or `from` which module it is."""
    found = re.findall(r"`([\w.]+)`,? in\s+`([\w/]+\.py)`", section("The path of one image"))
    assert len(found) > 10
    for name, path in found:
        owner: object = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        for part in name.split("."):
            # The Celery task is defined in the function that registers it.
            assert hasattr(owner, part) or name == "tag_batch", f"{path} has no {name}"
            owner = getattr(owner, part, owner)
