"""The registered models in SQL: add, find and list them.

`tagmill.registry.rollout` brings versions into production.
"""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from tagmill.bundles.metadata import BundleSpec, check_name
from tagmill.db.audit import Action, record
from tagmill.db.connection import epoch_now, insert_ignore, reading
from tagmill.db.schema import label_name, model
from tagmill.errors import InputError, ServiceDown
from tagmill.text import normalize

#: key in the spec of a label set, with NAME@VERSION of the model whose embeddings it labels
LABEL_SET = "label_set"

#: Attempts to insert the next version of a name. When processes register at the same time, one succeeds per attempt.
_MAX_TRIES = 100


class Stage(StrEnum):
    """The values of `model.stage`."""

    #: NAME alone does not mean it while another version is in production
    CANDIDATE = "candidate"
    #: the version that NAME alone means, and that the catalog shows
    PRODUCTION = "production"
    #: no new run uses it
    RETIRED = "retired"


@dataclass(frozen=True)
class Model:
    """A registered bundle, or a label set."""

    id: int
    sha256: str
    name: str
    version: int
    task: str
    labels: tuple[str, ...]
    spec: dict[str, Any]
    metrics: dict[str, Any]
    stage: Stage

    @property
    def title(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.name}@{self.version}"

    @property
    def is_label_set(self) -> bool:
        """Return whether it is a label set: it labels by the embeddings of another model, and has no bundle."""
        return LABEL_SET in self.spec


def register(engine: Engine, spec: BundleSpec, sha256: str, name: str | None = None) -> Model:
    """Insert a bundle as the next version of its name, or return the existing model with the same bytes.

    Raise InputError for a name that is not plain, or that belongs to label sets.
    """
    return add_version(engine, spec, sha256, name or spec.name)


def add_version(
    engine: Engine,
    spec: BundleSpec,
    sha256: str,
    name: str,
    further: Mapping[str, Any] = MappingProxyType({}),
    finish: Callable[[Connection, Model], object] = lambda connection, added: None,
) -> Model:
    """Insert the next version of a name, or return the existing model with this sha256.

    `further` goes into its spec, and `finish` is called in the same transaction if the model is new.
    """
    name = normalize(name)
    for _ in range(_MAX_TRIES):
        with engine.begin() as connection:
            if found := _select_newest(connection, model.c.sha256 == sha256):
                return found
            check_name(name)
            _require_kind(connection, name, label_set=LABEL_SET in further)
            _insert(connection, spec, sha256, name, further)
            if spec.labels:
                connection.execute(insert_ignore(connection, label_name), [{"name": label} for label in spec.labels])
            # None if another process took the version first: PostgreSQL waited for it and skipped our row.
            if registered := _select_newest(connection, model.c.sha256 == sha256):
                finish(connection, registered)
                record(connection, Action.ADD, name_id=_name_id(connection, registered), to_id=registered.id)
                return registered
    raise ServiceDown(f"model {name}: too many register it at once; try again later")


def resolve(engine: Engine, wanted: str) -> Model:
    """Return the model NAME@VERSION. NAME alone is the version in production, else the newest that is not retired.

    Raises InputError.
    """
    name, at, version = wanted.partition("@")
    if at and not (version.isdecimal() and len(version) < 10):
        raise InputError(f"model {wanted}: the version after @ must be a number")
    # A database of before may hold names in another Unicode form.
    named = model.c.name.in_({normalize(name), unicodedata.normalize("NFD", name), name})
    with reading(engine) as connection:
        if at:
            found = _select_newest(connection, named & (model.c.version == int(version)))
        else:
            found = _select_newest(connection, named & (model.c.stage == Stage.PRODUCTION))
            found = found or _select_newest(connection, named & (model.c.stage != Stage.RETIRED))
            found = found or _select_newest(connection, named)
        known = connection.execute(select(model.c.name).distinct().order_by(model.c.name)).scalars().all()
    if found is None:
        listed = f"registered are: {', '.join(known)}" if known else "none is registered; see `tagmill model add`"
        raise InputError(f"no model {wanted}; {listed}")
    return found


def resolve_bundle(engine: Engine, wanted: str) -> Model:
    """Return the model that `resolve` returns. Raise InputError also for a label set: there is nothing to load."""
    found = resolve(engine, wanted)
    if found.is_label_set:
        raise InputError(
            f"{found.title} is a label set, which no worker runs; tag with --model {found.spec[LABEL_SET]}, then run "
            f"`tagmill labelset apply {found.name}`"
        )
    return found


def resolve_for_run(engine: Engine, wanted: str) -> Model:
    """Return the model that `resolve_bundle` returns, for a new run. Raise InputError also for a retired version."""
    return require_usable(resolve_bundle(engine, wanted))


def require_usable(found: Model) -> Model:
    """Return a model. Raise InputError for a retired version."""
    if found.stage is Stage.RETIRED:
        raise InputError(
            f"{found.title} is retired. Name another version, or take that back with: "
            f"tagmill model retire {found.title} --undo"
        )
    return found


def list_models(engine: Engine) -> list[Model]:
    """Return every registered model by name, newest version first."""
    with reading(engine) as connection:
        return [_model(row) for row in connection.execute(select(model).order_by(model.c.name, model.c.version.desc()))]


def models_by_sha256(engine: Engine, shas: list[str]) -> dict[str, Model]:
    """Return the registered models with these sha256, by sha256."""
    with reading(engine) as connection:
        return {row.sha256: _model(row) for row in connection.execute(select(model).where(model.c.sha256.in_(shas)))}


def _require_kind(connection: Connection, name: str, *, label_set: bool) -> None:
    """Raise InputError if a name belongs to models of the other kind: bundles, or label sets."""
    found = _select_newest(connection, model.c.name == name)
    if found is None or found.is_label_set == label_set:
        return
    kind = "a label set" if found.is_label_set else "a model with a bundle"
    raise InputError(f"{name} is the name of {kind}; choose another name")


def _insert(connection: Connection, spec: BundleSpec, sha256: str, name: str, further: Mapping[str, Any]) -> None:
    newest = select(func.coalesce(func.max(model.c.version), 0)).where(model.c.name == name)
    row = {
        "sha256": sha256,
        "name": name,
        "version": connection.execute(newest).scalar_one() + 1,
        "task": spec.task.name,
        "labels": list(spec.labels),
        "spec": {
            "preprocess": spec.preprocess.to_dict(),
            "background": spec.background,
            "precision": spec.precision,
            "thresholds": spec.thresholds,
            "embedding": spec.embedding,
            "activation_map": spec.activation_map,
            **further,
        },
        "metrics": spec.metrics,
        "stage": Stage.CANDIDATE,
    }
    first = select(func.min(model.c.id)).where(model.c.name == name).scalar_subquery()
    # The first model of a name stands for the name: it gets its own id.
    inserted = insert_ignore(connection, model).values(created_at=epoch_now(), name_id=func.coalesce(first, 0), **row)
    connection.execute(inserted)
    own = update(model).where(model.c.name == name, model.c.name_id == 0).values(name_id=model.c.id)
    connection.execute(own)


def _name_id(connection: Connection, found: Model) -> int:
    return int(connection.execute(select(model.c.name_id).where(model.c.id == found.id)).scalar_one())


def _select_newest(connection: Connection, condition: Any) -> Model | None:
    row = connection.execute(select(model).where(condition).order_by(model.c.version.desc()).limit(1)).one_or_none()
    return None if row is None else _model(row)


def _model(row: Any) -> Model:
    return Model(
        row.id,
        row.sha256,
        row.name,
        row.version,
        row.task,
        tuple(map(normalize, row.labels)),
        row.spec,
        row.metrics,
        Stage(row.stage),
    )
