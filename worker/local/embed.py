"""Embed single images with the worker's own stages, without a queue."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmill.errors import InputError
from tagmill.locations.schemes import is_stored, url_scheme
from tagmill.settings import Settings
from worker.inference.session_cache import BundleFiles
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.tagger import build_tagger


def embed_image(settings: Settings, files: BundleFiles, sha256: str, location: str) -> NDArray[np.float32]:
    """Return the embedding, float32 [D], that the bundle with this sha256 gives for a file, URL or stored object.

    A file may be in any folder. Raise InputError if the image cannot be read, and the errors of a bundle that cannot be
    loaded.
    """
    local = url_scheme(location) is None
    uri = str(Path(location).resolve()) if local else location
    # What a person names on the command line may be read, and nothing beside it.
    roots = (uri.rpartition("/")[0] + "/",) if local or is_stored(location) else ()
    # No limits of hosts that other workers share: one image is asked for.
    tagger = build_tagger(settings.model_copy(update={"broker_url": "memory://localhost/"}), files)
    try:
        session = tagger.sessions.get(sha256)
        (image,) = tagger.tag([BatchImage(0, uri)], [session], roots)
    finally:
        tagger.close()
    if image.code is not None:
        raise InputError(f"{location}: {image.code}: {image.detail}")
    vector = image.answers[0].embedding
    if vector is None:
        raise InputError(f"{session.spec.name}: its bundle gives no embedding; export it with --embedding")
    return vector
