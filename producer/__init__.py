"""Submit runs, and write their results: `from producer import submit, wait, status, results, drift`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.api.drift import drift
    from producer.api.duplicates import duplicates
    from producer.api.results import Results, results
    from producer.api.runs import Submitted, status, submit, wait
    from producer.api.similar import similar
    from producer.monitoring.figures import RunDrift
    from producer.output.image_result import ImageResult
    from producer.sources.options import ReadOptions
    from tagmill.fetch_options import FetchOptions, HostLimits
    from tagmill.ledger.runs.progress import RunProgress
    from tagmill.search.duplicates.read import DuplicateGroup
    from tagmill.search.similar import SimilarImage
    from tagmill.where import Where

__all__ = [
    "DuplicateGroup",
    "FetchOptions",
    "HostLimits",
    "ImageResult",
    "ReadOptions",
    "Results",
    "RunDrift",
    "RunProgress",
    "SimilarImage",
    "Submitted",
    "Where",
    "drift",
    "duplicates",
    "results",
    "similar",
    "status",
    "submit",
    "wait",
]

_MODULES = {
    "DuplicateGroup": "tagmill.search.duplicates.read",
    "FetchOptions": "tagmill.fetch_options",
    "HostLimits": "tagmill.fetch_options",
    "ImageResult": "producer.output.image_result",
    "ReadOptions": "producer.sources.options",
    "Results": "producer.api.results",
    "RunDrift": "producer.monitoring.figures",
    "RunProgress": "tagmill.ledger.runs.progress",
    "SimilarImage": "tagmill.search.similar",
    "Submitted": "producer.api.runs",
    "Where": "tagmill.where",
    "drift": "producer.api.drift",
    "duplicates": "producer.api.duplicates",
    "results": "producer.api.results",
    "similar": "producer.api.similar",
    "status": "producer.api.runs",
    "submit": "producer.api.runs",
    "wait": "producer.api.runs",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing before: commands import this package, too, and start in a moment."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
