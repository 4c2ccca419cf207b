"""Which model's embeddings are compared."""

from sqlalchemy import Engine

from tagmill.errors import InputError
from tagmill.registry.models import Model, Stage, list_models, resolve


def width_of(model: Model) -> int:
    """Return how many numbers a model's embedding has; 0 if it gives none."""
    return int(model.spec.get("embedding", 0))


def embedding_model(engine: Engine, wanted: str | None = None) -> Model:
    """Return the model NAME or NAME@VERSION that gives embeddings; without a name the only one that does.

    Of several versions it is the one in production, else the newest. Raise InputError if there is no such model, or if
    several names could be meant.
    """
    if wanted is not None:
        found = resolve(engine, wanted)
        if not width_of(found):
            raise InputError(f"model {found.title} gives no embedding; {_advice(engine)}")
        return found
    by_name: dict[str, list[Model]] = {}
    for found in list_models(engine):  # the newest version of a name first
        if width_of(found) and found.stage is not Stage.RETIRED:
            by_name.setdefault(found.name, []).append(found)
    if len(by_name) != 1:
        raise InputError(f"name a model with --model; {_advice(engine)}" if by_name else _advice(engine))
    (versions,) = by_name.values()
    return next((found for found in versions if found.stage is Stage.PRODUCTION), versions[0])


def _advice(engine: Engine) -> str:
    titles = [found.title for found in list_models(engine) if width_of(found)]
    if titles:
        return f"these models give one: {', '.join(titles)}"
    return "no registered model gives an embedding; export one with `tagmill export --embedding 256`"
