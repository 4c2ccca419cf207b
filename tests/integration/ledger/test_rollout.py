"""Which changes of a model's versions are allowed, what the audit says of them, and what was in production when."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from support.catalog import new_version

from benchmarks.database.rollback import measure
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.pruning.models import unused_models
from tagmill.registry.models import Model, Stage, resolve, resolve_for_run
from tagmill.registry.rollout.history import history
from tagmill.registry.rollout.production import promote, rollback
from tagmill.registry.rollout.retirement import retire
from tagmill.registry.rollout.running import RolloutKind, running_rollouts
from tagmill.registry.rollout.trials import begin, stop

#: the query of docs/rollout.md, for a moment in Unix seconds
PRODUCTION_AT = (
    "SELECT version FROM model_production WHERE model = 'shirts' AND since <= :at AND (until IS NULL OR until > :at)"
)


@pytest.fixture
def versions(engine: Engine) -> list[Model]:
    """Three versions of a model; the first is in production."""
    found = [new_version(engine, "shirts") for _ in range(3)]
    promote(engine, "shirts@1")
    return found


def shadow(engine: Engine, wanted: str) -> object:
    return begin(engine, RolloutKind.SHADOW, wanted, 0.1, None)


def test_rollback_goes_back_one_promotion_at_a_time(engine: Engine, versions: list[Model]) -> None:
    for title in ("shirts@2", "shirts@3"):
        promote(engine, title)
    assert [rollback(engine, "shirts").now for _ in range(2)] == ["shirts@2", "shirts@1"]
    with pytest.raises(InputError, match=r"no version of shirts is known .* before shirts@1; name one: .*--to shirts@"):
        rollback(engine, "shirts")
    assert rollback(engine, "shirts", "shirts@3", "it was right").before == "shirts@1"
    assert resolve(engine, "shirts").version == 3
    assert not rollback(engine, "shirts", "shirts@3").is_new
    new_version(engine, "shirts")
    with pytest.raises(InputError, match=r"shirts@4 was never in production; promote it: .*promote shirts@4"):
        rollback(engine, "shirts", "shirts@4")
    hats = new_version(engine, "hats")
    with pytest.raises(InputError, match="is no version of shirts"):
        rollback(engine, "shirts", hats.title)
    with pytest.raises(InputError, match="no version of hats is in production"):
        rollback(engine, "hats")


def test_a_rollback_names_the_canary_that_runs(engine: Engine, versions: list[Model]) -> None:
    begin(engine, RolloutKind.CANARY, "shirts@3", 0.1, None)
    stopped = "shirts@3 is its canary: stop it with tagmill model canary shirts --stop, or "
    with pytest.raises(InputError, match=rf"before shirts@1, and {stopped}promote one: .* shirts@VERSION"):
        rollback(engine, "shirts")
    promote(engine, "shirts@2")
    with pytest.raises(InputError, match=rf"shirts@2 stays in production, as {stopped}.*rollback shirts --to shirts@1"):
        rollback(engine, "shirts")
    assert rollback(engine, "shirts", "shirts@1").now == "shirts@1"
    assert [found.title for found in running_rollouts(engine)] == ["shirts@3"]


def test_the_history_has_every_change_and_production_at_any_time_is_one_query(
    engine: Engine, versions: list[Model]
) -> None:
    begin(engine, RolloutKind.SHADOW, "shirts@2", 0.1, "sku", "a look")
    begin(engine, RolloutKind.SHADOW, "shirts@2", 0.2, "sku")
    begin(engine, RolloutKind.CANARY, "shirts@3", 0.05, None)
    stop(engine, RolloutKind.CANARY, "shirts", "too dark")
    promote(engine, "shirts@2", "better", {"gates": {"golden samples": "passed"}})
    rollback(engine, "shirts", reason="worse")
    retire(engine, "shirts@2")
    events = history(engine, "shirts")
    told = [(event.action, event.from_version, event.to_version, event.reason) for event in events[3:]]
    assert told == [
        ("promote", None, 1, None),
        ("shadow", 1, 2, "a look"),
        ("shadow", 1, 2, None),
        ("canary", 1, 3, None),
        ("stop", 3, None, "too dark"),
        ("promote", 1, 2, "better"),
        ("rollback", 2, 1, "worse"),
        ("retire", 2, None, None),
    ]
    assert all(event.user_name and event.host for event in events)
    assert events[8].details == {"gates": {"golden samples": "passed"}, "ended": ["shadow"]}
    assert running_rollouts(engine) == ()
    moments = [event.at for event in events if event.action in ("promote", "rollback")]
    with engine.begin() as connection:  # a day each
        for number, moment in enumerate(moments, 1):
            connection.execute(text("UPDATE audit_event SET at = :day WHERE at = :at"), {"day": number, "at": moment})
        days = [connection.execute(text(PRODUCTION_AT), {"at": day}).scalars().all() for day in (0.5, 1.5, 2.5, 9)]
    assert days == [[], [1], [2], [1]]
    assert history(engine) == history(engine, "shirts")


def test_what_cannot_be_tried_is_refused_with_what_to_do(engine: Engine, versions: list[Model]) -> None:
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: shadow(engine, "shirts@1"), "shirts@1 is in production"),
        (lambda: shadow(engine, new_version(engine, "hats").title), r"first promote .*model promote hats@VERSION"),
        (lambda: retire(engine, "shirts@1"), "promote another version"),
    ]
    for call, reason in refused:
        with pytest.raises(InputError, match=reason):
            call()
    shadow(engine, "shirts@2")
    with pytest.raises(InputError, match="is the shadow of shirts; stop that first"):
        retire(engine, "shirts@2")
    with pytest.raises(NothingToDo, match="shirts has no canary"):
        stop(engine, RolloutKind.CANARY, "shirts")
    with pytest.raises(InputError, match=r"the shadow of shirts is shirts@2, not shirts@3"):
        stop(engine, RolloutKind.SHADOW, "shirts@3")
    assert begin(engine, RolloutKind.CANARY, "shirts@2", 0.1, None).ended is RolloutKind.SHADOW
    assert [found.kind for found in running_rollouts(engine)] == [RolloutKind.CANARY]
    assert stop(engine, RolloutKind.CANARY, "shirts") == "shirts@2"


def test_a_retired_version_is_used_by_nothing_new_until_that_is_taken_back(
    engine: Engine, versions: list[Model]
) -> None:
    new_version(engine, "hats")
    retire(engine, new_version(engine, "hats").title)
    assert resolve(engine, "hats").version == 1
    retire(engine, "shirts@3")
    for call in (promote, shadow, resolve_for_run, lambda engine, title: rollback(engine, "shirts", title)):
        with pytest.raises(InputError, match=r"shirts@3 is retired.*retire shirts@3 --undo"):
            call(engine, "shirts@3")
    with pytest.raises(NothingToDo, match="retired already"):
        retire(engine, "shirts@3")
    assert resolve(engine, "shirts@3").stage is Stage.RETIRED
    retire(engine, "shirts@3", undo=True)
    assert promote(engine, "shirts@3").now == "shirts@3"
    assert "shirts@1" not in {found.title for found in unused_models(engine, 4e9)}


def test_the_benchmark_sees_the_version_in_production_after_each_change(postgres_url: str) -> None:
    taken = measure(postgres_url, 5_000, 1)
    assert set(taken) >= {"promote", "rollback", "all labels, after rollback"}
