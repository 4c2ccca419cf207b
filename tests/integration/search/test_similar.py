"""`tagmill similar` on every kind of column: what is found, what is left out, and the index of PostgreSQL."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import Engine, text
from support.bundles import write_classifier, write_image_tower
from support.embeddings import embedding_model, store, unit
from support.ledger import new_model

from producer import similar as similar_in_python
from tagmill.bundles.metadata import BundleSpec, sha256_of
from tagmill.bundles.onnx_file import read_metadata
from tagmill.cli.commands import cli
from tagmill.db.connection import connect, reading
from tagmill.db.migrate import upgrade
from tagmill.db.migrations.rights import rights_on
from tagmill.errors import BundleError, ConfigurationError, InputError
from tagmill.registry.models import Model, register
from tagmill.registry.store import ModelStore
from tagmill.search import halfvec as halfvec_module
from tagmill.search import nearest as nearest_module
from tagmill.search.hnsw import Build, create_index, drop_index, has_index
from tagmill.search.models import embedding_model as choose_model
from tagmill.search.nearest import Query, in_sqlite, nearest
from tagmill.search.similar import Choice, similar_to_key, similar_to_vector

WIDTH = 8
#: the angle in degrees of each key's embedding
ANGLES = {"a": 0, "b": 10, "c": 20, "d": 60, "e": 90}


def at(degrees: float) -> NDArray[np.float32]:
    vector = np.zeros(WIDTH, np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def stored_angles(engine: Engine) -> Model:
    model = embedding_model(engine, WIDTH)
    store(engine, model, {key: at(degrees) for key, degrees in ANGLES.items()})
    return model


def keys(found: list[object]) -> list[str]:
    return [shown.key for one in found for shown in one.keys]  # type: ignore[attr-defined]


def test_the_nearest_images_come_first_with_their_cosine(stored: Engine) -> None:
    model = stored_angles(stored)
    found = similar_to_key(stored, model, "a", Choice(k=3))
    assert keys(found) == ["b", "c", "d"]
    assert [one.similarity for one in found] == pytest.approx(np.cos(np.radians([10, 20, 60])), abs=1e-3)
    assert (found[0].shown_by, found[0].keys[0].uri) == (1, "/shop/b.jpg")
    by_vector = similar_to_vector(stored, model, 5 * at(61), Choice(k=2))
    assert keys(by_vector) == ["d", "e"]
    assert by_vector[0].similarity == pytest.approx(1, abs=1e-3)
    assert keys(similar_to_key(stored, model, "a", Choice(k=99))) == ["b", "c", "d", "e"]


@pytest.mark.parametrize("stored", ["sqlite", "halfvec"], indirect=True)
def test_other_keys_of_the_same_bytes_are_found_and_the_key_itself_is_not(stored: Engine) -> None:
    model = embedding_model(stored, WIDTH)
    store(stored, model, {"a": at(0), "twin": at(0), "b": at(10)})
    same, other = similar_to_key(stored, model, "a", Choice(k=2))
    assert (keys([same]), same.shown_by) == (["twin"], 1)
    assert same.similarity == pytest.approx(1, abs=1e-3)
    assert keys([other]) == ["b"]


@pytest.mark.parametrize("stored", ["sqlite", "halfvec"], indirect=True)
def test_an_image_that_the_catalog_no_longer_shows_is_found_only_on_request(stored: Engine) -> None:
    model = stored_angles(stored)
    store(stored, model, {"b": at(45)})  # a newer run tagged other bytes of this key
    assert keys(similar_to_key(stored, model, "a", Choice(k=9))) == ["c", "b", "d", "e"]
    everything = similar_to_key(stored, model, "a", Choice(k=9, everything=True))
    assert keys(everything) == ["b", "c", "b", "d", "e"]
    assert [one.shown_by for one in everything] == [0, 1, 1, 1, 1]
    with stored.begin() as connection:  # as docs/operations/prune.md deletes what was replaced
        connection.execute(text("DELETE FROM entry WHERE run_id = 1 AND image_key = 'b'"))
    (gone, *_) = similar_to_key(stored, model, "a", Choice(k=9, everything=True))
    assert (gone.keys, gone.shown_by) == ((), 0)


@pytest.mark.parametrize("stored", ["sqlite", "halfvec"], indirect=True)
def test_a_key_without_an_embedding_says_what_to_do(stored: Engine) -> None:
    stored_angles(stored)
    other = embedding_model(stored, WIDTH, "other")
    with pytest.raises(InputError, match="a: has no embedding of other@1; submit it with --model other@1"):
        similar_to_key(stored, other, "a", Choice())
    with pytest.raises(InputError, match="shows no image of this key"):
        similar_to_key(stored, other, "nothing", Choice())
    for wrong in (np.zeros(WIDTH, np.float32), np.ones(3, np.float32), np.full(WIDTH, np.nan, np.float32)):
        with pytest.raises(InputError, match="8 finite numbers"):
            similar_to_vector(stored, other, wrong, Choice())


def test_a_model_must_be_named_only_if_several_give_embeddings(engine: Engine) -> None:
    new_model(engine)
    with pytest.raises(InputError, match="no registered model gives an embedding"):
        choose_model(engine)
    looks = embedding_model(engine, WIDTH)
    newest = embedding_model(engine, WIDTH + 1)
    assert choose_model(engine) == newest
    assert choose_model(engine, looks.title) == looks
    with pytest.raises(InputError, match="shirts@1 gives no embedding; these models give one: looks@2, looks@1"):
        choose_model(engine, "shirts")
    embedding_model(engine, WIDTH, "other")
    with pytest.raises(InputError, match="name a model with --model; these models give one: looks@2"):
        choose_model(engine)


@pytest.mark.parametrize("stored", ["bytea"], indirect=True)
def test_chunks_are_merged(stored: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "CHUNK", 2)
    model = stored_angles(stored)
    assert keys(similar_to_key(stored, model, "e", Choice(k=4))) == ["d", "c", "b", "a"]


def test_sqlite_vec_and_numpy_agree(sqlite_url: str) -> None:
    engine = connect(sqlite_url)
    upgrade(engine)
    model = stored_angles(engine)
    with reading(engine) as connection:
        query = Query(model.id, at(14), 4)
        expected = nearest(connection, query)
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        # A Python without loadable extensions cannot load sqlite-vec: its function, as documented.
        raw.create_function("vec_distance_cosine", 2, cosine_distance)
        found = in_sqlite(connection, query)
    assert [image for image, _ in found] == [image for image, _ in expected]
    assert [near for _, near in found] == pytest.approx([near for _, near in expected], abs=1e-5)
    engine.dispose()


def cosine_distance(one: bytes, other: bytes) -> float:
    first, second = np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4")
    return float(1 - first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_the_index_of_a_model_is_used_and_can_be_removed(stored: Engine) -> None:
    random = np.random.default_rng(0)
    model, other = embedding_model(stored, WIDTH), embedding_model(stored, WIDTH + 1, "other")
    vectors = unit(random.normal(size=(600, WIDTH)))
    store(stored, model, {f"{number:03d}": vector for number, vector in enumerate(vectors)})
    store(stored, other, {"x": np.ones(WIDTH + 1, np.float32)})
    assert create_index(stored, model, Build("64MB", 0), lambda done, total: None)
    assert not create_index(stored, model, Build(), lambda done, total: None)
    exact = similar_to_key(stored, model, "007", Choice(k=10, exact=True))
    with reading(stored) as connection:
        assert has_index(connection, model)
        assert not has_index(connection, other)
        plan = "\n".join(explained(connection, model, vectors[7]))
    assert f"ix_embedding_hnsw_{model.id}" in plan
    assert keys(similar_to_key(stored, model, "007", Choice(k=10))) == keys(exact)
    assert create_index(stored, other, Build(), lambda done, total: None)
    assert drop_index(stored, model)
    assert not drop_index(stored, model)


def explained(connection: object, model: Model, vector: NDArray[np.float32]) -> list[str]:
    statement = nearest_module.postgresql_statement(Query(model.id, vector, 10))
    connection.execute(text("SET LOCAL enable_seqscan = off"))  # type: ignore[attr-defined]  # 600 rows are few
    values = {"vector": nearest_module.halfvec_text(vector), "k": 10}
    return list(connection.execute(text(f"EXPLAIN {statement}"), values).scalars())  # type: ignore[attr-defined]


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_an_index_that_an_interrupted_build_left_is_made_again(stored: Engine) -> None:
    model = stored_angles(stored)
    create_index(stored, model, Build(), lambda done, total: None)
    with stored.begin() as connection:
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(:name AS regclass)"),
            {"name": f"ix_embedding_hnsw_{model.id}"},
        )
    assert create_index(stored, model, Build(), lambda done, total: None)
    with reading(stored) as connection:
        assert has_index(connection, model)


def test_sqlite_says_that_it_has_no_index(sqlite_url: str) -> None:
    engine = connect(sqlite_url)
    upgrade(engine)
    with pytest.raises(ConfigurationError, match="SQLite has no such index"):
        create_index(engine, stored_angles(engine), Build(), lambda done, total: None)
    engine.dispose()


@pytest.mark.parametrize("stored", ["bytea"], indirect=True)
def test_a_postgresql_without_pgvector_says_what_to_do(stored: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halfvec_module, "create_pgvector", lambda connection: False)  # this server may have it
    model = stored_angles(stored)
    with pytest.raises(ConfigurationError, match="let its administrator run: CREATE EXTENSION vector"):
        create_index(stored, model, Build(), lambda done, total: None)


def test_plain_bytes_become_halfvec_once_pgvector_is_there(pgvector_url: str) -> None:
    engine = connect(pgvector_url)
    upgrade(engine)
    model = embedding_model(engine, WIDTH)
    with engine.begin() as connection:  # as in a database that had no pgvector when its tables were made
        connection.execute(text("DROP VIEW catalog_embeddings"))
        connection.execute(text("ALTER TABLE embedding ALTER COLUMN vector TYPE bytea USING NULL::bytea"))
        connection.execute(text("CREATE VIEW catalog_embeddings AS SELECT vector AS embedding FROM embedding"))
        connection.execute(text("GRANT SELECT ON catalog_embeddings TO PUBLIC"))
    store(engine, model, {key: at(degrees) for key, degrees in ANGLES.items()})
    before = similar_to_key(engine, model, "a", Choice())
    assert create_index(engine, model, Build(), lambda done, total: None)
    after = similar_to_key(engine, model, "a", Choice())
    assert keys(after) == keys(before) == ["b", "c", "d", "e"]
    with engine.connect() as connection:
        assert connection.execute(
            text("SELECT pg_typeof(embedding)::text FROM catalog_embeddings")
        ).scalars().all() == ["halfvec"] * len(ANGLES)
        (granted,) = rights_on(connection, ["catalog_embeddings"])
        assert granted.grantee == "PUBLIC"
    engine.dispose()


@pytest.mark.parametrize("stored", ["halfvec"], indirect=True)
def test_a_size_that_postgresql_does_not_take_is_refused(stored: Engine) -> None:
    model = stored_angles(stored)
    with pytest.raises(InputError, match="maintenance_work_mem much"):
        create_index(stored, model, Build("much"), lambda done, total: None)


@pytest.fixture
def colors(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog with a red and a blue image, tagged by a bundle that is in the model store."""
    monkeypatch.setenv("TAGMILL_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(tmp_path / "models"))
    engine = connect(sqlite_url)
    upgrade(engine)
    bundle = write_classifier(tmp_path / "colors.onnx", embedding=True)
    ModelStore(tmp_path / "models").add(bundle, sha256_of(bundle))
    model = register(engine, BundleSpec.from_metadata(read_metadata(bundle)), sha256_of(bundle))
    store(engine, model, {"red": np.array([1, 0, 0], np.float32), "blue": np.array([0, 0, 1], np.float32)})
    engine.dispose()
    Image.new("RGB", (32, 32), (220, 10, 10)).save(tmp_path / "new.png")
    return tmp_path


def similar(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["similar", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return int(done.return_value), done.output


def test_a_file_is_embedded_by_the_models_bundle(colors: Path) -> None:
    code, printed = similar(colors / "new.png", "--k", "1", "--device", "cpu", "--json")
    (found,) = json.loads(printed)
    assert (code, found["keys"]) == (0, [{"key": "red", "uri": "/shop/red.jpg"}])
    assert found["similarity"] == pytest.approx(1, abs=0.01)
    assert similar("blue")[1] == "0.0000  red  /shop/red.jpg\n"
    assert [one.keys[0].key for one in similar_in_python("red", k=5)] == ["blue"]
    assert [one.keys[0].key for one in similar_in_python([0, 0, 1], k=1)] == ["blue"]


def test_what_is_neither_key_nor_image_says_so(colors: Path) -> None:
    (colors / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    tower = write_image_tower(colors / "tower.onnx")
    for arguments, said in (
        (("missing.jpg",), "shows no image of this key, and there is no such file"),
        ((colors / "broken.jpg", "--device", "cpu"), "broken.jpg: not_an_image"),
        ((colors / "new.png", "--bundle", tower), "is not the bundle of colors@1"),
    ):
        with pytest.raises(InputError, match=said):
            similar(*arguments)
    next((colors / "models").iterdir()).unlink()
    with pytest.raises(BundleError, match=r"is missing; .*; or name its file with --bundle"):
        similar(colors / "new.png", "--device", "cpu")
    assert similar(colors / "new.png", "--device", "cpu", "--bundle", colors / "colors.onnx")[0] == 0
