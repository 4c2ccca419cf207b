"""Check all gates of a promotion."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from export.promotion.accuracy import ACCURACY, accuracy_gate, without_test_set
from export.promotion.agreement import agreement_gate
from export.promotion.bundle_gates import load_for_gates, parity_gate
from export.promotion.gate import Gate, failed
from tagmill.registry.models import Model, Stage, list_models
from tagmill.registry.open_store import open_store
from tagmill.settings import Settings
from worker.inference.session import Session
from worker.pipeline.tagger import Tagger, build_tagger


def version_in_production(engine: Engine, name: str) -> Model | None:
    """Return the version of a name that is in production, if one is."""
    versions = (found for found in list_models(engine) if found.name == name)
    return next((found for found in versions if found.stage is Stage.PRODUCTION), None)


def check_gates(
    engine: Engine,
    settings: Settings,
    chosen: Model,
    production: Model | None,
    test_set: Sequence[Path],
    floor: float | None,
) -> Iterator[Gate]:
    """Yield each gate when it was checked. `production` is the version that is in production now.

    Raise what `load_for_gates` raises.
    """
    local = settings.model_copy(update={"concurrency": 1, "decode_on_gpu": False, "broker_url": "memory://localhost/"})
    with closing(build_tagger(local, open_store(settings))) as tagger:
        golden, session = load_for_gates(tagger.sessions, chosen)
        yield golden
        yield parity_gate(None if session is None else session.spec)
        yield _accuracy(tagger, chosen, session, production, test_set)
    yield agreement_gate(engine, chosen, production, floor)


def _accuracy(
    tagger: Tagger, chosen: Model, session: Session | None, production: Model | None, test_set: Sequence[Path]
) -> Gate:
    if not test_set:
        return without_test_set()
    if session is None:
        return failed(ACCURACY, f"{chosen.title} has no bundle that could be measured")
    before = None
    if production is not None:
        golden, loaded = load_for_gates(tagger.sessions, production)
        if loaded is None:
            return failed(ACCURACY, f"{production.title} cannot be measured: {golden.detail}")
        before = (production.title, loaded)
    return accuracy_gate(session, before, test_set, tagger.pools.decode)
