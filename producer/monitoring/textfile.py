"""Write the figures as metrics that node_exporter's textfile collector reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from producer.monitoring.figures import GroupDrift, RunDrift
from tagmill.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: names of the collector's files end so
SUFFIX = ".prom"
_OF_GROUPS = ("model", "kind", "column")


def write_textfile(found: RunDrift, path: Path) -> None:
    """Write the largest figure of each model and kind of group; a reader never sees half a file.

    The names of labels, of values and of runs are no labels of a metric: there may be any number of them.
    Raise ConfigurationError if prometheus-client, the extra `ops`, is not installed, and InputError if the file cannot
    be written.
    """
    try:
        from prometheus_client import CollectorRegistry, write_to_textfile
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "--prometheus needs prometheus-client, which is not installed; run: pip install 'tagmill[ops]'"
        ) from error
    if path.suffix != SUFFIX:
        raise InputError(f"--prometheus {path}: the collector reads files whose names end in {SUFFIX}")
    registry = CollectorRegistry()
    _fill(registry, found)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name another file") from error


def _fill(registry: "CollectorRegistry", found: RunDrift) -> None:
    from prometheus_client import Gauge

    psi = Gauge("tagmill_drift_psi", "Largest population stability index", (*_OF_GROUPS, "of"), registry=registry)
    distance = Gauge("tagmill_drift_distance", "Largest cosine distance of centroids", _OF_GROUPS, registry=registry)
    unknown = Gauge("tagmill_drift_unknown_share", "Share of images labeled unknown", ("model",), registry=registry)
    above = Gauge("tagmill_drift_groups_above", "Groups with a figure above its limit", _OF_GROUPS, registry=registry)
    time = Gauge("tagmill_drift_timestamp_seconds", "When the runs were compared", registry=registry)
    time.set_to_current_time()
    for model in found.models:
        for kind, column, groups in _kinds(model.groups):
            names = (model.name, kind, column)
            above.labels(*names).set(sum(bool(group.above) for group in groups))
            judged = [group for group in groups if group.judged]
            for of in ("labels", "scores", "failed"):
                values = [index.value for group in judged if (index := group.indexes[of]) is not None]
                if values:
                    psi.labels(*names, of).set(max(values))
            apart = [group.distance.value for group in judged if group.distance is not None]
            if apart:
                distance.labels(*names).set(max(apart))
        if model.whole.now.unknown_share is not None:
            unknown.labels(model.name).set(model.whole.now.unknown_share)


def _kinds(groups: tuple[GroupDrift, ...]) -> Iterator[tuple[str, str, list[GroupDrift]]]:
    """Yield the groups of each kind and column together."""
    for kind, column in dict.fromkeys((group.kind, group.column) for group in groups):
        yield kind.value, column or "", [group for group in groups if (group.kind, group.column) == (kind, column)]
