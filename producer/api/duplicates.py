"""Find images that show the same, as `tagmill duplicates` does."""

from producer.api.database import database
from producer.duplicate_groups import write_duplicates
from tagmill.search.duplicates.find import Search
from tagmill.search.duplicates.read import DuplicateGroup, read_duplicates
from tagmill.search.models import embedding_model


def duplicates(
    run: int | None = None, model: str | None = None, look_alike: float = 0.95, full_urls: bool = False
) -> list[DuplicateGroup]:
    """Find duplicates in the catalog, or in a run; write the groups to SQL and return them.

    `model` is whose embeddings are compared; without it, hashes alone are, and no look-alikes are found. Raise
    InputError for an unknown run or model.
    """
    with database() as engine:
        chosen = None if model is None else embedding_model(engine, model)
        write_duplicates(engine, Search(run, chosen, look_alike), lambda stage, done, total: None)
        return list(read_duplicates(engine, run, full_urls))
