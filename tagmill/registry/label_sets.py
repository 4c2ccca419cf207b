"""Label sets in SQL: versions of a model's name, with what they hold in a table of their own."""

from dataclasses import dataclass

from sqlalchemy import Engine, select

from tagmill.bundles.metadata import BundleSpec
from tagmill.db.connection import insert_ignore, reading
from tagmill.db.schema import label_set, model
from tagmill.errors import InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.labelsets.label_set import LabelSet
from tagmill.registry.models import LABEL_SET, Model, add_version, list_models, resolve
from tagmill.tasks.classify import CLASSIFY


@dataclass(frozen=True)
class RegisteredLabelSet:
    """A label set with its row in the registry, and the model whose embeddings it labels."""

    model: Model
    #: stands for the model's name in `catalog_entry`
    name_id: int
    base_id: int
    content: LabelSet

    @property
    def base(self) -> str:
        """Return NAME@VERSION of the model whose embeddings it labels."""
        return str(self.model.spec[LABEL_SET])


def register_label_set(engine: Engine, content: LabelSet, base: Model) -> Model:
    """Insert a label set as the next version of its name, or return the existing one of the same content.

    Raise InputError for a name that is not plain, or that belongs to a model with a bundle.
    """
    preprocess = PreprocessSpec.from_dict(base.spec["preprocess"])
    spec = BundleSpec(content.name, CLASSIFY, content.all_labels, preprocess, temperature=content.temperature)
    row = {"base_id": base.id, "content": content.to_bytes()}
    return add_version(
        engine,
        spec,
        content.sha256,
        content.name,
        {LABEL_SET: base.title},
        lambda connection, added: connection.execute(
            insert_ignore(connection, label_set).values(model_id=added.id, **row)
        ),
    )


def load_label_set(engine: Engine, wanted: str) -> RegisteredLabelSet:
    """Return the label set NAME@VERSION, or the version that NAME alone means. Raise InputError if there is none."""
    found = resolve(engine, wanted)
    if not found.is_label_set:
        raise InputError(f"{found.title} is a model and no label set; see `tagmill labelset list`")
    stored = (
        select(model.c.name_id, label_set.c.base_id, label_set.c.content)
        .join(model, model.c.id == label_set.c.model_id)
        .where(model.c.id == found.id)
    )
    with reading(engine) as connection:
        row = connection.execute(stored).one()
    return RegisteredLabelSet(found, row.name_id, row.base_id, LabelSet.from_bytes(bytes(row.content)))


def list_label_sets(engine: Engine) -> list[Model]:
    """Return every label set by name, newest version first."""
    return [found for found in list_models(engine) if found.is_label_set]


def base_model(engine: Engine, wanted: str) -> Model:
    """Return the model whose embeddings a new label set is to label. Raise InputError if it gives none."""
    found = resolve(engine, wanted)
    if found.is_label_set:
        raise InputError(f"{found.title} is a label set; name its model: --model {found.spec[LABEL_SET]}")
    if not found.spec.get("embedding"):
        raise InputError(
            f"{found.title} gives no embedding; export it with `tagmill export --embedding 256`, register it, and tag "
            "the catalog with it"
        )
    return found
