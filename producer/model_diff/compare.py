"""Compare two models over the images that both have a result of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Integer, String, column, select, table

from producer.model_diff.examples import Disagreements, examples_of, to_examples
from producer.model_diff.figures import Confusion, Group, ModelDiff
from producer.model_diff.known_truth import TruthTally, answers_of_keys
from producer.model_diff.tally import Tally
from producer.monitoring.psi import psi
from producer.output.read.models import run_created_at
from tagmill.comparison.agreement import Agreement, compared_task, has_one_label
from tagmill.comparison.counts import count_pairs
from tagmill.comparison.images import SharedImage, shared_images
from tagmill.db.any_of import any_of
from tagmill.db.connection import reading
from tagmill.errors import InputError, NothingToDo
from tagmill.extra import parse_extra, text_of
from tagmill.registry.models import Model
from tagmill.tasks.base import Task
from tagmill.text import normalize
from tagmill.where import Where

#: labels up to which the whole matrix is made, confused pairs and groups of a column that are listed
MATRIX_LABELS, CONFUSIONS, GROUPS = 40, 50, 50

_NAMES = table("label_name", column("id", Integer), column("name", String))


@dataclass(frozen=True)
class DiffOptions:
    """What is compared."""

    #: the run whose entries are compared; None: every image, once
    run: int | None = None
    #: conditions on the entries of the run
    where: Where = field(default_factory=Where)
    #: a further column of its entries whose values are groups
    by: str | None = None
    #: image key -> its true labels
    truth: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: whether examples are chosen
    examples: bool = False


def compare_models(engine: Engine, a: Model, b: Model, options: DiffOptions) -> ModelDiff:
    """Return how the answers of B differ from those of A.

    Raise InputError for models that cannot be compared or an unknown run, and NothingToDo without a common image.
    """
    task = compared_task(a, b)
    if options.run is None and (options.where or options.by):
        raise InputError("--where and --by are about entries: name their run with --run")
    if options.run is not None:
        run_created_at(engine, options.run)
    reader = _Reader(engine, a, b, options, one_label=has_one_label(task))
    reader.read()
    if not reader.tally.images:
        of_run = "" if options.run is None else f" among the chosen entries of run {options.run}"
        raise NothingToDo(
            f"no image{of_run} has a result of both {a.title} and {b.title}; tag some with both: "
            f"tagmill submit SOURCE --model {a.title} --model {b.title}, or try `tagmill model shadow {b.title}`"
        )
    return reader.figures(task)


class _Reader:
    """Reads the images into a tally, chooses examples, and looks at the truth."""

    def __init__(self, engine: Engine, a: Model, b: Model, options: DiffOptions, *, one_label: bool) -> None:
        self._engine, self._a, self._b, self._options = engine, a, b, options
        self._one_label = one_label
        self.tally = Tally()
        self._disagreements = Disagreements()
        self._truth = TruthTally(options.truth, one_label=one_label)
        self._words: dict[int, str] = {}

    def read(self) -> None:
        if self._options.run is None and self._one_label:
            for found in count_pairs(self._engine, self._a, self._b):
                self.tally.add_count(found)
        else:
            for image in shared_images(self._engine, self._a, self._b, self._options.run):
                self._add(image)
        if self._options.run is None and self._truth.truth:
            for page in answers_of_keys(self._engine, self._a, self._b, list(self._truth.truth)):
                self._learn(label for _, a, b in page for label in (*a, *b))
                for key, a, b in page:
                    self._truth.add(key, a, b, self._words)

    def _add(self, image: SharedImage) -> None:
        options = self._options
        if options.where and not options.where.matches(image.image_key, image.uri, image.extra):
            return
        group = None
        if options.by:
            value = parse_extra(image.extra).get(options.by)
            group = None if value is None else text_of(value)
        same = self.tally.add_image(image, group, one_label=self._one_label)
        if not same and options.examples:
            self._disagreements.add(image)
        if image.image_key in self._truth.truth:
            self._learn((*image.a, *image.b))
            self._truth.add(image.image_key, image.a, image.b, self._words)

    def figures(self, task: Task) -> ModelDiff:
        """Return the figures of all that was read."""
        tally, options = self.tally, self._options
        with reading(self._engine) as connection:
            chosen = self._examples(connection)
            self._learn_from(connection, {*tally.labels, *(label for one in chosen for label in (*one.a, *one.b))})
            examples = to_examples(connection, self._a, chosen, self._words, self._truth.truth)
        if options.by and tally.groups.keys() == {None}:
            raise InputError(f"--by {options.by}: no chosen entry of run {options.run} has such a column")
        confusions, matrix = _confused(tally, self._words)
        given = [{label: getattr(found, name) for label, found in tally.labels.items()} for name in _GIVEN]
        return ModelDiff(
            self._a.title,
            self._b.title,
            options.run,
            _compared(task),
            self._one_label,
            Agreement(tally.images, tally.same),
            tuple(_labels(tally, self._words)),
            tuple(_columns(tally)) if options.by else (),
            options.by,
            confusions,
            matrix,
            tally.scores.drift(),
            psi(given[1], given[0]),
            self._truth.figures(),
            examples,
            tuple(self._notes(len(confusions))),
        )

    def _examples(self, connection: Connection) -> list[SharedImage]:
        if not self._options.examples:
            return []
        if self._options.run is None and self._one_label:
            return examples_of(connection, self._a, self._b, self.tally.pairs)
        return self._disagreements.chosen()

    def _notes(self, shown: int) -> Iterator[str]:
        a, b = set(self._a.labels), set(self._b.labels)
        for title, only in ((self._a.title, a - b), (self._b.title, b - a)):
            if only:
                yield f"only {title} has {_listed(sorted(only))}: there the two cannot agree"
        pairs = sum(1 for one, other in self.tally.pairs if one != other)
        if pairs > shown:
            yield f"{pairs - shown:,} rarer confusions are not listed"
        if self._truth.truth and (found := self._truth.figures()) and found.missing:
            yield f"{found.missing:,} keys of the truth have no result of both models"

    def _learn(self, labels: Any) -> None:
        if new := set(labels) - self._words.keys():
            with reading(self._engine, snapshot=False) as connection:
                self._learn_from(connection, new)

    def _learn_from(self, connection: Connection, labels: set[int]) -> None:
        if new := labels - self._words.keys():
            rows = connection.execute(select(_NAMES).where(any_of(_NAMES.c.id, "ids")), {"ids": list(new)})
            self._words |= {row.id: normalize(row.name) for row in rows}


_GIVEN = ("given_a", "given_b")


def _compared(task: Task) -> str:
    if task.gives_masks:
        return "the set of labels that have a mask, whatever its outline"
    return "the set of labels with a score of 0.5 or more" if task.multilabel else "the best label"


def _labels(tally: Tally, words: Mapping[int, str]) -> Iterator[Group]:
    for label, found in sorted(tally.labels.items(), key=lambda one: (-one[1].given_a, words[one[0]])):
        mean_a = found.sum_a / found.given_a if found.given_a else None
        mean_b = found.sum_b / found.given_b if found.given_b else None
        yield Group(words[label], Agreement(found.given_a, found.both), mean_a, mean_b, found.given_b)


def _columns(tally: Tally) -> Iterator[Group]:
    for value, (images, same) in sorted(tally.groups.items(), key=lambda one: (-one[1][0], one[0] or ""))[:GROUPS]:
        yield Group(value, Agreement(images, same))


def _confused(tally: Tally, words: Mapping[int, str]) -> tuple[tuple[Confusion, ...], Any]:
    different = {pair: images for pair, images in tally.pairs.items() if pair[0] != pair[1]}
    ordered = sorted(different, key=lambda pair: (-different[pair], words[pair[0]], words[pair[1]]))[:CONFUSIONS]
    confusions = tuple(
        Confusion(words[a], words[b], different[a, b], different[a, b] / tally.labels[a].given_a) for a, b in ordered
    )
    labels = sorted(tally.labels, key=words.__getitem__)
    if not tally.pairs or len(labels) > MATRIX_LABELS:
        return confusions, None
    rows = tuple(tuple(tally.pairs[a, b] for b in labels) for a in labels)
    return confusions, (tuple(words[label] for label in labels), rows)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more labels" if len(names) > 8 else "")
