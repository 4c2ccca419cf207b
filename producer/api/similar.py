"""Find the images that look most like one, as `tagmill similar` does."""

import numpy as np
from numpy.typing import ArrayLike

from producer.api.database import database
from tagmill.errors import InputError
from tagmill.search.models import embedding_model
from tagmill.search.similar import Choice, SimilarImage, similar_to_key, similar_to_vector


def similar(
    what: "str | ArrayLike",
    k: int = 20,
    model: str | None = None,
    everything: bool = False,
    exact: bool = False,
    full_urls: bool = False,
) -> list[SimilarImage]:
    """Return the `k` images that look most like a key of the catalog, or whose embeddings are nearest to a vector.

    A vector is float [D], as the model's bundle gives it. Without `model`, the only model that gives embeddings is
    meant. `everything` also returns images that the catalog no longer shows; `exact` uses no index. Raise InputError
    for an unknown key or model, and for a vector of another width.
    """
    if not 1 <= k <= 10_000:
        raise InputError(f"k {k}: choose 1 to 10,000")
    choice = Choice(k, everything, exact, full_urls)
    with database() as engine:
        chosen = embedding_model(engine, model)
        if isinstance(what, str):
            return similar_to_key(engine, chosen, what, choice)
        return similar_to_vector(engine, chosen, np.asarray(what, np.float32), choice)
