"""The registry on SQLite and PostgreSQL: names, versions, and several registrations at once."""

import threading
from dataclasses import replace

import pytest
from sqlalchemy import Engine, insert

from tagmill.bundles.metadata import BundleSpec
from tagmill.db import schema
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.registry.models import Model, list_models, register, resolve
from tagmill.registry.rollout.production import promote
from tagmill.tasks.classify import CLASSIFY

SPEC = BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
THREADS = 12


def all_at_once(engine: Engine, shas: list[str]) -> list[Model]:
    """Register bundles of one name from parallel threads; return the models, or raise what a thread raised."""
    got: list[Model] = []
    failed: list[BaseException] = []
    start = threading.Barrier(len(shas))

    def add(sha256: str) -> None:
        start.wait()
        try:
            got.append(register(engine, SPEC, sha256))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=(sha256,)) for sha256 in shas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return got


def test_several_bundles_of_one_name_registered_at_once_get_separate_versions(engine: Engine) -> None:
    got = all_at_once(engine, [f"{number:064}" for number in range(THREADS)])
    assert sorted(found.version for found in got) == list(range(1, THREADS + 1))
    assert {found.sha256: found.version for found in list_models(engine)} == {f.sha256: f.version for f in got}


def test_the_same_bundle_registered_several_times_at_once_is_one_model(engine: Engine) -> None:
    got = all_at_once(engine, ["f" * 64] * THREADS)
    assert got == [resolve(engine, "shirts@1")] * THREADS
    assert len(list_models(engine)) == 1


@pytest.mark.parametrize("name", ["../../escaped", "a/b", ".hidden", "a@1", "x" * 201, "nul\0"])
def test_a_name_that_is_not_plain_or_too_long_is_refused_with_what_is_allowed(engine: Engine, name: str) -> None:
    with pytest.raises(InputError, match=r"^model name .* letters, digits, spaces, \. _ and -, 200 at most; .*--name"):
        register(engine, SPEC, "f" * 64, name)
    assert list_models(engine) == []


def test_the_suggested_thresholds_are_registered(engine: Engine) -> None:
    register(engine, replace(SPEC, thresholds={"red": 0.5, "blue": 0.75}), "f" * 64)
    assert resolve(engine, "shirts").spec["thresholds"] == {"red": 0.5, "blue": 0.75}


def test_a_bundle_that_was_registered_under_such_a_name_keeps_its_name(engine: Engine) -> None:
    row = {"sha256": "f" * 64, "name": "a/b", "version": 1, "task": "classify", "labels": ["red"], "spec": {}}
    with engine.begin() as connection:
        connection.execute(insert(schema.model).values(**row, name_id=1, metrics={}, stage="candidate", created_at=0.0))
    assert register(engine, BundleSpec("a/b", CLASSIFY, ("red",), PreprocessSpec(8, 8)), "f" * 64).title == "a/b@1"


def test_a_name_is_found_in_any_unicode_form(engine: Engine) -> None:
    registered = register(engine, SPEC, "1" * 64, "Gro\u0308\u00dfe")
    assert registered.name == "Gr\u00f6\u00dfe"
    assert resolve(engine, "Gro\u0308\u00dfe") == resolve(engine, " Gr\u00f6\u00dfe@1") == registered


def test_a_name_means_the_version_in_production_or_the_newest(engine: Engine, model: Model) -> None:
    spec = BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(8, 8))
    second = register(engine, spec, "e" * 64)
    assert (model.version, second.version) == (1, 2)
    assert register(engine, spec, "e" * 64, "another name") == second
    assert resolve(engine, "shirts") == second
    promote(engine, "shirts@1")
    assert resolve(engine, "shirts").title == "shirts@1"
    assert resolve(engine, "shirts@2").title == "shirts@2"
    assert [found.title for found in list_models(engine)] == ["shirts@2", "shirts@1"]
