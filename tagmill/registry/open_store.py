"""Open the model store of the settings: a folder, or a location elsewhere with a cache of it on this machine."""

from pathlib import Path

from tagmill.registry.bundle_cache import BundleCache
from tagmill.registry.remote_store import RemoteStore
from tagmill.registry.store import ModelStore
from tagmill.settings import Settings

#: folder of the cached bundles in TAGMILL_CACHE_FOLDER
BUNDLES = "bundles"


def open_store(settings: Settings) -> ModelStore | RemoteStore:
    """Return the model store. Nothing is read before a bundle is asked for."""
    if isinstance(settings.model_store, Path):
        return ModelStore(settings.model_store)
    cache = BundleCache(settings.cache_folder / BUNDLES, settings.bundle_cache_bytes)
    return RemoteStore(settings.model_store, cache)
