"""`tagmill results` as it is called: every format into a file or folder, and mistakes in one line."""

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.catalog import submit, work

from producer.cli.results import results
from producer.output.formats import WRITERS, FileFormat, Format
from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import ConfigurationError, TagmillError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import register
from tagmill.tasks.segment import SEGMENT


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with two runs, of which the second failed in part."""
    url = f"sqlite:///{tmp_path_factory.mktemp('database') / 'tagmill.db'}"
    engine = connect(url)
    upgrade(engine)
    labels = ("background", "1 by shirts@1", "2 by shirts@1")
    model = register(engine, BundleSpec("shirts", SEGMENT, labels, PreprocessSpec(8, 8), "background"), "5" * 64)
    for contents in ({"a": "1", "b": "1"}, {"b": "2", "c": None}):
        work(engine, submit(engine, [model], contents, batch_size=2), contents)
    engine.dispose()
    return url


@pytest.fixture(autouse=True)
def settings(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAGMILL_DATABASE_URL", database)
    monkeypatch.chdir(tmp_path)


def call(*words: object) -> str:
    """Return what the command prints; raise the error that it ends with."""
    done = CliRunner().invoke(results, list(map(str, words)), catch_exceptions=False, standalone_mode=False)
    return done.output


@pytest.mark.parametrize("form", list(Format))
def test_every_format_is_written_into_a_folder_or_a_file(tmp_path: Path, form: Format) -> None:
    assert call(1, "--format", form, "-o", "folder/").splitlines() == ["run 1: 2 images"]
    assert list((tmp_path / "folder").iterdir())
    if isinstance(WRITERS[form], FileFormat):
        call(1, "--format", form, "-o", "file.json")
        files = {"file.json"} | ({"file.xml"} if form is Format.LABEL_STUDIO else set())
        assert {path.name for path in tmp_path.iterdir()} == {"folder", *files}


@pytest.mark.parametrize(
    ("words", "keys", "last"),
    [
        ((), "ab", "catalog: 2 images"),
        ((1, 2), "abbc", "runs 1, 2: 4 images"),
        ((2, "--failed"), "c", "run 2: 1 images"),
        ((1, "--label", "1 by shirts@1", "--where", "image_key=b"), "b", "run 1: 1 images"),
        ((1, "--min-score", "0.95", "--model", "shirts"), "ab", "run 1: 2 images"),
        ((1, "--long"), "aaabbb", "run 1: 2 images"),
        ((1, 2, "--since", "1d"), "abbc", "runs 1, 2: 4 images"),
    ],
)
def test_images_and_labels_are_chosen(words: tuple[object, ...], keys: str, last: str) -> None:
    header, *rows, told = call(*words).splitlines()
    assert header.startswith("image_key,uri,status,error_code,error_detail,sha256,width,height,run")
    assert told == last
    assert [row[0] for row in rows] == sorted(keys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((9,), "no run 9; see `tagmill run list`"),
        ((1, "--format", "hf"), "these are several files; name a folder: -o tags/"),
        ((1, "--shard-rows", 2), "these are several files; name a folder: -o tags/"),
        ((1, "-o", ""), "-o is empty; name a file or a folder"),
        ((1, "-o", "none/tags.csv"), "none/tags.csv: No such file or directory"),
        ((1, "--format", "coco", "--failed"), "coco has no place for failed images; choose csv, jsonl or parquet"),
        ((1, "--format", "jsonl", "--long"), "--long is of csv; jsonl has all labels of an image"),
        ((1, 2, "--masks", "masks"), "--masks takes one run, or none for the catalog"),
        ((1, "--thresholds"), "--thresholds: training suggested none for shirts@1; use --min-score"),
        ((1, "--image-prefix", "/srv"), "--image-prefix /srv: write OLD=NEW"),
        ((1, "--where", "=1"), "--where '=1' is no condition"),
        ((1, "--since", "soon"), "--since soon: give a run, an age such as 12h or 2d, or a time"),
    ],
)
def test_a_mistake_is_said_in_one_line(words: tuple[object, ...], message: str) -> None:
    with pytest.raises(TagmillError) as caught:
        call(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [Format.PARQUET, Format.HF])
def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch, form: Format) -> None:
    for name in ("arrow_batches", "parquet_writer", "hf_writer"):
        monkeypatch.delitem(sys.modules, f"producer.output.writers.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ConfigurationError, match=rf"--format {form} needs pyarrow; run: pip install 'tagmill\[parquet\]'"
    ):
        call(1, "--format", form, "-o", "folder/")


def test_the_help_names_every_format() -> None:
    with click.Context(results) as context:
        assert all(form in results.get_help(context) for form in Format)
