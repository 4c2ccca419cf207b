"""The names that models have in results."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from tagmill.registry.models import Model


def unique_names(models: Sequence[Model], compared: Collection[str] | None = None) -> dict[str, str]:
    """Return a name for each model, by its sha256: NAME, or NAME@VERSION.

    `compared` are the names of which an image may have two versions; None means all names of several models. Other
    versions share their NAME if they have the same task and labels.
    """
    versions = defaultdict(list)
    for found in models:
        versions[found.name].append(found)
    shared = {name for name, of_name in versions.items() if _is_shared(of_name, compared)}
    return {found.sha256: found.name if found.name in shared else found.title for found in models}


def _is_shared(versions: Sequence[Model], compared: Collection[str] | None) -> bool:
    if len(versions) == 1:
        return True
    alike = len({(found.task, found.labels) for found in versions}) == 1
    return alike and compared is not None and versions[0].name not in compared
