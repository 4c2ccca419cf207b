"""Compare a run with a reference run: counts from SQL, figures of every model and group."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine

from producer.monitoring import notes
from producer.monitoring.columns import chosen_column
from producer.monitoring.figures import GroupDrift, Kind, Limits, ModelDrift, RunDrift
from producer.monitoring.judge import group_drift, label_drift
from producer.monitoring.models import Pair, compared_models
from producer.output.read.drift.centroids import Sums, VectorSum, sum_embeddings
from producer.output.read.drift.counts import Counts, count_labels, score_edges
from producer.output.read.drift.groups import Outcomes, outcomes
from producer.output.read.drift.relations import Column, look_each_image_up
from tagmill.db.connection import reading
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.runs.progress import RunProgress, run_progress


@dataclass(frozen=True)
class Comparison:
    """What is to be compared."""

    run: int
    reference: int
    #: NAME or NAME@VERSION; without any, all names that both runs have
    models: tuple[str, ...] = ()
    #: further columns of the entries whose values are groups
    by: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    #: labels, and values of each column, that are shown: the largest
    most_groups: int = 20


@dataclass(frozen=True)
class _Sides:
    """What is read once for all models: the two runs, and the outcomes of the groups of each column."""

    runs: tuple[RunProgress, RunProgress]
    #: column -> the outcomes of its values in both runs
    columns: Mapping[Column, tuple[dict[str | None, Outcomes], dict[str | None, Outcomes]]]
    #: name of a column -> values that are not shown
    left_out: Mapping[str | None, int]


def compare_runs(engine: Engine, wanted: Comparison) -> RunDrift:
    """Return how far a run is from its reference. Images without an outcome are left out, and that is said.

    Raise InputError for an unknown run, model or column, and NothingToDo if a run has no tagged image.
    """
    runs = (run_progress(engine, wanted.run), run_progress(engine, wanted.reference))
    for progress in runs:
        if not progress.tagged:
            raise NothingToDo(f"run {progress.run} is {progress.state} and has no tagged image: nothing to compare")
    pairs, said = compared_models(engine, wanted.run, wanted.reference, wanted.models)
    with reading(engine) as connection:
        look_each_image_up(connection)
        sides = _read_sides(connection, wanted, runs)
        models = tuple(_compare_model(connection, wanted, sides, pair) for pair in pairs)
    said = [*notes.of_runs(runs), *said, *notes.of_models(models, wanted.limits)]
    return RunDrift(wanted.run, wanted.reference, wanted.limits, models, tuple(said))


def _read_sides(connection: Connection, wanted: Comparison, runs: tuple[RunProgress, RunProgress]) -> _Sides:
    columns: dict[Column, tuple[dict[str | None, Outcomes], dict[str | None, Outcomes]]] = {}
    left_out: dict[str | None, int] = {}
    for name in dict.fromkeys(wanted.by):
        column, left_out[name] = chosen_column(connection, (wanted.run, wanted.reference), name, wanted.most_groups)
        now, before = (outcomes(connection, run_id, column) for run_id in (wanted.run, wanted.reference))
        columns[column] = (now, before)
    return _Sides(runs, columns, left_out)


def _compare_model(connection: Connection, wanted: Comparison, sides: _Sides, pair: Pair) -> ModelDrift:
    runs = (wanted.run, wanted.reference)
    edges = score_edges(connection, wanted.reference, pair[1])
    made = [_of_all(connection, wanted, sides, pair, edges)]
    labels = list(_of_labels(wanted, made[0]))
    shown = labels[: wanted.most_groups]
    groups = [made[0].drift, *shown]
    for column, found in sides.columns.items():
        groups += _of_column(connection, wanted.limits, runs, pair, edges, column, found)
    left_out = {**sides.left_out, None: len(labels) - len(shown)}
    return ModelDrift(
        pair[0].name,
        pair[0].version,
        pair[1].version,
        tuple(groups),
        {name: count for name, count in left_out.items() if count},
    )


@dataclass(frozen=True)
class _Whole:
    """All images of both runs: their figures, and the counts and sums that those of labels are made of."""

    drift: GroupDrift
    counts: tuple[Counts, Counts]
    sums: tuple[Sums, Sums]


def _of_all(connection: Connection, wanted: Comparison, sides: _Sides, pair: Pair, edges: list[float]) -> _Whole:
    now, before = (
        (count_labels(connection, number, model, edges), sum_embeddings(connection, number, model))
        for number, model in zip((wanted.run, wanted.reference), pair, strict=True)
    )
    counts = (now[0].get(None, Counts()), before[0].get(None, Counts()))
    for number, model, found in zip((wanted.run, wanted.reference), pair, counts, strict=True):
        if not found.labels.total():
            raise InputError(f"run {number} has no result of {model.title}: it was not tagged with it")
    sums = (now[1], before[1])
    of_run = (_outcomes(sides.runs[0]), _outcomes(sides.runs[1]))
    totals = (_total(sums[0], None), _total(sums[1], None))
    made = group_drift(Kind.ALL, None, None, counts, of_run, totals, wanted.limits)
    return _Whole(made, counts, sums)


def _of_labels(wanted: Comparison, whole: _Whole) -> Iterator[GroupDrift]:
    """Yield the figures of each label, the most frequent first."""
    now, before = whole.counts
    both = now.labels + before.labels
    for label in sorted((one for one in both if one is not None), key=lambda one: (-both[one], one)):
        sums = (whole.sums[0].get((None, label)), whole.sums[1].get((None, label)))
        yield label_drift(label, whole.counts, sums, wanted.limits)


def _of_column(
    connection: Connection,
    limits: Limits,
    runs: tuple[int, int],
    pair: Pair,
    edges: list[float],
    column: Column,
    found: tuple[dict[str | None, Outcomes], dict[str | None, Outcomes]],
) -> Iterator[GroupDrift]:
    """Yield the figures of each value of a column, the most frequent first."""
    now, before = (
        (count_labels(connection, number, model, edges, column), sum_embeddings(connection, number, model, column))
        for number, model in zip(runs, pair, strict=True)
    )
    for value in column.values:
        counts = (now[0].get(value, Counts()), before[0].get(value, Counts()))
        of_value = (found[0].get(value, Outcomes()), found[1].get(value, Outcomes()))
        sums = (_total(now[1], value), _total(before[1], value))
        yield group_drift(Kind.COLUMN, column.name, value, counts, of_value, sums, limits)


def _outcomes(progress: RunProgress) -> Outcomes:
    return Outcomes(progress.tagged, progress.failed)


def _total(sums: Sums, value: str | None) -> VectorSum | None:
    """Return the sum of all embeddings of a value, whatever their labels; None if there is none."""
    parts = [found for (of_value, _), found in sums.items() if of_value == value]
    if not parts:
        return None
    total = VectorSum(0, 0 * parts[0].total)
    for part in parts:
        total.add(part)
    return total
