"""Whether the bundle of a version is still in the model store, before workers are asked to load it."""

from tagmill.errors import BundleError, first_line
from tagmill.registry.models import Model
from tagmill.registry.open_store import open_store
from tagmill.settings import Settings


def require_stored(settings: Settings, chosen: Model) -> None:
    """Raise BundleError if the bundle is missing or damaged in the store, and StoreDownError if that does not answer.

    A bundle of a store elsewhere comes into the cache of this machine. A label set has no bundle.
    """
    if chosen.is_label_set:
        return
    try:
        open_store(settings).verified(chosen.sha256)
    except BundleError as error:
        raise BundleError(f"{chosen.title}: {first_line(error)}; register its file again: tagmill model add") from error
