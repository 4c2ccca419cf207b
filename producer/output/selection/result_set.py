"""Choose results: the images of a query, and what is known of them before the first one is read."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain

from sqlalchemy import Engine

from producer.output.extra_columns import ExtraColumn
from producer.output.image_result import ImageResult
from producer.output.model_names import unique_names
from producer.output.read import texts
from producer.output.read.catalog import read_catalog
from producer.output.read.models import canary_models, catalog_models, run_created_at, run_models, sorted_models
from producer.output.read.runs import read_failures, read_results
from producer.output.selection.filters import require_thresholds, result_filter
from producer.output.selection.query import ResultQuery, names_model, since_run, since_time
from tagmill.db.connection import database_time
from tagmill.errors import InputError
from tagmill.registry.models import Model
from tagmill.text import normalize

#: the models of results, each with its name in them
Named = tuple[tuple[str, Model], ...]


class ResultSet:
    """Results in a fixed order. Each iteration reads them again, in flat memory."""

    def __init__(
        self,
        models: Named,
        read: Callable[[], Iterator[ImageResult]],
        *,
        runs: Sequence[int] = (),
        find_columns: Callable[[], tuple[ExtraColumn, ...]] = tuple,
        find_ascii: Callable[[], bool] = lambda: True,
    ) -> None:
        self.models = models
        #: of which the images are; none: the catalog
        self.runs = tuple(runs)
        self._read = read
        self._find_columns = find_columns
        self._find_ascii = find_ascii

    def __iter__(self) -> Iterator[ImageResult]:
        return self._read()

    @cached_property
    def extra_columns(self) -> tuple[ExtraColumn, ...]:
        """The further columns of all images; the first look reads the entries once."""
        return self._find_columns()

    @cached_property
    def is_ascii(self) -> bool:
        """Whether all texts are plain ASCII; the first look reads the entries once."""
        return self._find_ascii()

    @property
    def title(self) -> str:
        """What the results are of, for people."""
        if not self.runs:
            return "catalog"
        return f"run{'s' if len(self.runs) > 1 else ''} {', '.join(map(str, self.runs))}"


def select_results(engine: Engine, query: ResultQuery) -> ResultSet:
    """Return the results that a query asks for.

    The images of runs are in the order in which the runs are named and in the order of their manifests; those of the
    catalog are in the order of their keys. Raise InputError for an unknown run or model.
    """
    if query.failed and not query.runs:
        raise InputError("--failed needs a run: the catalog holds tagged images alone; see `tagmill run list`")
    runs = tuple(dict.fromkeys(query.runs))
    models, of_run, names = _named_models(engine, query, runs)
    if query.thresholds:
        require_thresholds(models)
    since = _since(engine, query)
    if runs:
        reads = [_reading(engine, run, of_run[run], names, query, since) for run in runs]
    else:
        reads = [partial(read_catalog, engine, models, names, since)]
    keep = result_filter(query)
    return ResultSet(
        tuple((names[found.sha256], found) for found in models),
        lambda: keep(chain.from_iterable(read() for read in reads)),
        runs=runs,
        find_columns=partial(texts.extra_columns, engine, runs),
        find_ascii=partial(texts.is_ascii, engine, runs, models),
    )


def _named_models(
    engine: Engine, query: ResultQuery, runs: Sequence[int]
) -> tuple[list[Model], dict[int, list[Model]], dict[str, str]]:
    """Return the chosen models, those of each run, and the name of each by sha256."""
    of_run = {run: run_models(engine, run) for run in runs}
    if runs:
        compared = {found.name for models in of_run.values() for found in models if _count(models, found.name) > 1}
        of_run = {run: [*models, *canary_models(engine, run)] for run, models in of_run.items()}
        known = sorted_models({found.sha256: found for models in of_run.values() for found in models}.values())
    else:
        known, compared = catalog_models(engine)
    names = unique_names(known, compared)
    if not query.models:
        return known, of_run, names
    wanted = {normalize(name) for name in query.models}
    for name in wanted:
        if not any(names_model([name], found.name, found.version) for found in known):
            listed = ", ".join(found.title for found in known)
            raise InputError(f"--model {name}: these results are of {listed or 'no model'}")
    chosen = {found.sha256 for found in known if names_model(wanted, found.name, found.version)}
    of_run = {run: [found for found in models if found.sha256 in chosen] for run, models in of_run.items()}
    return [found for found in known if found.sha256 in chosen], of_run, names


def _count(models: Sequence[Model], name: str) -> int:
    return sum(found.name == name for found in models)


def _since(engine: Engine, query: ResultQuery) -> float | None:
    if query.since is None:
        return None
    run = since_run(query.since)
    return since_time(query.since, database_time(engine)) if run is None else run_created_at(engine, run)


def _reading(
    engine: Engine, run: int, models: Sequence[Model], names: dict[str, str], query: ResultQuery, since: float | None
) -> Callable[[], Iterator[ImageResult]]:
    if query.failed:
        return partial(read_failures, engine, run, since)
    return partial(read_results, engine, run, models, names, since)
