"""One image with its outcome and what models said, as it is read from SQL and given to writers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tagmill.records import ActivationMap, Mask
from tagmill.registry.models import Model


@dataclass(frozen=True)
class ImageResult:
    """One image of a run, or of the catalog, with its labels and masks by model name."""

    position: int
    image_key: str
    uri: str
    status: str
    error_code: str | None
    error_detail: str | None
    sha256: str | None
    width: int | None
    height: int | None
    #: (label, score), best first
    labels: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    #: at the resolution of the model
    masks: dict[str, list[Mask]] = field(default_factory=dict)
    #: the models that answered
    models: Mapping[str, Model] = field(default_factory=dict)
    run_id: int = 0
    #: the further columns of its manifest, as the text of a JSON object
    extra: str | None = None
    #: of the best label, by model name; only where they are asked for
    maps: Mapping[str, ActivationMap] = field(default_factory=dict)
