"""The gates of the bundle itself: golden samples on this machine, and parity that was proved when it was made."""

from export.promotion.gate import Gate, failed, not_checked, passed
from tagmill.bundles.metadata import BundleSpec, Precision
from tagmill.errors import BundleError
from tagmill.registry.models import Model
from worker.inference.session import Session
from worker.inference.session_cache import SessionCache

GOLDEN, PARITY = "golden samples", "parity"
#: largest difference of a score in a float32 bundle: that of `export.proof.parity` and `export.foreign`
_TOLERANCE = 1e-4


def load_for_gates(sessions: SessionCache, model: Model) -> tuple[Gate, Session | None]:
    """Load the bundle of a version from the model store, as a worker does. Return the gate of its golden samples.

    Raise ConfigurationError for a device that is not active, and StoreDownError if the store does not answer.
    """
    if model.is_label_set:
        return not_checked(GOLDEN, f"{model.title} is a label set, which has no bundle"), None
    try:
        session = sessions.get(model.sha256)
    except BundleError as error:
        return failed(GOLDEN, str(error)), None
    difference = session.golden_difference
    if difference is None:
        return not_checked(GOLDEN, "the bundle has none; one that is exported again has some"), session
    said = f"they differ by at most {difference:.1e} on {session.provider}"
    return passed(GOLDEN, said, difference=difference, provider=session.provider), session


def parity_gate(spec: BundleSpec | None) -> Gate:
    """Return whether the bundle was proved to answer as the model that it was made of."""
    proof = spec.provenance.get("parity") if spec is not None else None
    if spec is None:
        return not_checked(PARITY, "there is no bundle to read it from")
    if not isinstance(proof, dict):
        said = "the bundle records no proof: it was not made by `tagmill export` or `tagmill model import`"
        return not_checked(PARITY, said)
    found = proof.get("max_score_difference", proof.get("max_difference"))
    values = {"difference": found, "images": proof.get("images")}
    if not isinstance(found, (int, float)):
        return failed(PARITY, "the bundle's record of it cannot be read; export it again")
    said = f"it differed by at most {found:.1e} from what it was made of ({values['images']} images)"
    if spec.precision is Precision.FP32 and not found <= _TOLERANCE:
        return failed(PARITY, f"{said}, {_TOLERANCE:g} allowed; export it again", **values)
    if spec.precision is not Precision.FP32:
        said += f", as {spec.precision} makes it: its accuracy decided when it was exported"
    return passed(PARITY, said, **values)
