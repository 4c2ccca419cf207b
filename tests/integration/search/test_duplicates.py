"""`tagmill duplicates` on every kind of column: which groups are found, and the evidence in SQL."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sqlalchemy import Engine, text
from support.embeddings import embedding_model, store, store_hashes, unit

from producer import duplicates as duplicates_in_python
from producer.duplicate_groups import write_duplicates
from tagmill.cli.commands import cli
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import InputError
from tagmill.registry.models import Model
from tagmill.search.duplicates import find as find_module
from tagmill.search.duplicates.find import Search
from tagmill.search.duplicates.read import DuplicateGroup, read_duplicates
from tagmill.search.hnsw import Build, create_index

WIDTH = 8
#: how an embedding is stored changes nothing beyond reading it
BOTH = pytest.mark.parametrize("stored", ["sqlite", "halfvec"], indirect=True)


def at(degrees: float) -> NDArray[np.float32]:
    vector = np.zeros(WIDTH, np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def find(engine: Engine, model: Model | None, run: int | None = None, look_alike: float = 0.95) -> list[DuplicateGroup]:
    write_duplicates(engine, Search(run, model, look_alike), lambda stage, done, total: None)
    return list(read_duplicates(engine, run))


def shown(groups: list[DuplicateGroup]) -> list[list[tuple[str, str]]]:
    return [[(image.key, image.kind.value) for image in group.images] for group in groups]


#: hashes of 64 bits: some picture, and it mirrored
PLAIN, TURNED = 0xF0F0_1234_5678_9ABC, 0x0F0F_CBA9_8765_4321


def catalog_of_copies(engine: Engine) -> Model:
    """Store a shoe with a twin, a recompressed, a mirrored and a similar one, and two hats that look alike."""
    model = embedding_model(engine, WIDTH)
    degrees = {"shoe": 0, "twin": 0, "small": 5, "turned": 8, "other shoe": 10, "hat": 80, "red hat": 90}
    ids = store(engine, model, {key: at(angle) for key, angle in degrees.items()})
    store_hashes(
        engine,
        {
            ids["shoe"]: (PLAIN, TURNED),
            ids["small"]: (PLAIN ^ 0b101, TURNED ^ 0b11),
            ids["turned"]: (TURNED, PLAIN),
            ids["other shoe"]: (PLAIN ^ 0xFFFF_FFFF, TURNED ^ 0xFFFF_FFFF),
        },
    )
    return model


def test_copies_and_look_alikes_are_grouped_with_their_evidence(stored: Engine) -> None:
    model = catalog_of_copies(stored)
    copies, shoes, hats = find(stored, model)
    assert shown([copies, shoes, hats]) == [
        [("shoe", "first"), ("twin", "bytes"), ("small", "picture"), ("turned", "mirrored")],
        [("shoe", "first"), ("twin", "bytes"), ("other shoe", "look_alike")],
        [("hat", "first"), ("red hat", "look_alike")],
    ]
    evidence = {image.key: (image.distance, image.similarity) for image in copies.images}
    assert evidence["shoe"] == (None, None)
    assert evidence["twin"] == (0, 1.0)
    assert evidence["small"] == (2, pytest.approx(np.cos(np.radians(5)), abs=1e-3))
    assert evidence["turned"] == (0, pytest.approx(np.cos(np.radians(8)), abs=1e-3))
    assert [group.looks_alike for group in (copies, shoes, hats)] == [False, True, True]
    assert shown(find(stored, model)) == shown([copies, shoes, hats])


@BOTH
def test_without_embeddings_hashes_alone_find_copies(stored: Engine) -> None:
    catalog_of_copies(stored)
    (group,) = find(stored, None)
    assert [image.key for image in group.images] == ["shoe", "twin", "small", "turned"]
    assert group.images[2].similarity is None
    with stored.begin() as connection:  # pictures of one color, whose hashes say nothing
        connection.execute(text("UPDATE picture SET contrast = 0.01"))
    assert shown(find(stored, None)) == [[("shoe", "first"), ("twin", "bytes")]]


@BOTH
def test_a_run_is_searched_alone(stored: Engine) -> None:
    model = embedding_model(stored, WIDTH)
    store(stored, model, {"a": at(0), "b": at(0)})
    store(stored, model, {"c": at(1), "d": at(0)})  # d has the bytes of a and b
    assert shown(find(stored, model, run=2)) == [[("d", "first"), ("c", "look_alike")]]
    assert shown(find(stored, model, run=1)) == [[("a", "first"), ("b", "bytes")]]
    assert shown(find(stored, None)) == [[("a", "first"), ("b", "bytes"), ("d", "bytes")]]
    with pytest.raises(InputError, match="no run 9"):
        find(stored, model, run=9)


@BOTH
def test_keys_that_show_something_else_now_are_left_out_until_the_next_search(stored: Engine) -> None:
    model = embedding_model(stored, WIDTH)
    store(stored, model, {"a": at(0), "b": at(0), "c": at(0)})
    assert len(find(stored, None)[0].images) == 3
    store(stored, model, {"b": at(50)})
    assert shown(list(read_duplicates(stored))) == [[("a", "first"), ("c", "bytes")]]
    store(stored, model, {"c": at(50)})
    assert list(read_duplicates(stored)) == []
    assert shown(find(stored, None)) == [[("b", "first"), ("c", "bytes")]]


@BOTH
def test_a_chain_of_look_alikes_is_no_group_of_all(stored: Engine) -> None:
    model = embedding_model(stored, WIDTH)
    store(stored, model, {f"{angle:02d}": at(angle) for angle in range(0, 90, 15)})
    groups = find(stored, model, look_alike=0.96)  # 16 degrees
    assert [len(group.images) for group in groups] == [3, 3]
    for group in groups:
        first = int(group.images[0].key)
        assert all(abs(int(image.key) - first) == 15 for image in group.images[1:])


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_the_index_finds_what_all_pairs_find(stored: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    model = embedding_model(stored, WIDTH)
    centers = unit(random.normal(size=(40, WIDTH)))
    vectors = unit(np.repeat(centers, 3, axis=0) + random.normal(scale=0.02, size=(120, WIDTH)))
    store(stored, model, {f"{number:03d}": vector for number, vector in enumerate(vectors)})
    expected = shown(find(stored, model, look_alike=0.98))
    assert len(expected) >= 30
    create_index(stored, model, Build(), lambda done, total: None)
    monkeypatch.setattr(find_module, "ALL_PAIRS", 10)
    assert shown(find(stored, model, look_alike=0.98)) == expected


def test_too_many_pairs_are_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = embedding_model(engine, WIDTH)
    store(engine, model, {str(number): at(number / 10) for number in range(20)})
    monkeypatch.setattr(find_module, "MOST_PAIRS", 50)
    with pytest.raises(InputError, match="more than 50 pairs of images look alike; raise --look-alike above"):
        find(engine, model)


def duplicates(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["duplicates", *arguments], standalone_mode=False)
    if done.exception:
        raise done.exception
    return int(done.return_value), done.stdout, done.stderr


def test_the_command_prints_groups_and_says_what_is_missing(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_DATABASE_URL", sqlite_url)
    engine = connect(sqlite_url)
    upgrade(engine)
    assert duplicates()[0] == 4  # nothing to do
    model = embedding_model(engine, WIDTH)
    store(engine, model, {"a": at(0), "b": at(0), "c": at(10)})
    code, printed, said = duplicates()
    assert code == 0
    assert printed.splitlines() == [
        "1  first                                 a  /shop/a.jpg",
        "1  bytes, 0 bits, similarity 1.000       b  /shop/b.jpg",
        "2  first                                 a  /shop/a.jpg",
        "2  bytes, 0 bits, similarity 1.000       b  /shop/b.jpg",
        "2  look-alike, similarity 0.985          c  /shop/c.jpg",
    ]
    assert "images: 2; groups of copies: 1, of look-alikes: 1" in said
    assert "no image has a hash; `tagmill submit --measure pictures` adds them" in said
    (group,) = json.loads(duplicates("--only-copies", "--json")[1])
    assert [image["key"] for image in group["images"]] == ["a", "b"]
    assert len(duplicates_in_python(model="looks")) == 2
    assert duplicates("1", "--show", "0")[1] == ""
    with pytest.raises(InputError, match="no model hats"):
        duplicates("--model", "hats")
    engine.dispose()
