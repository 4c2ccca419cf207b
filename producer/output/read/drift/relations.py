"""The parts that the queries share: the images of a run, what a model gave them, and the groups that they are in.

Every query reads the view `tagged_entry`, so an image counts as often as the manifest has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, bindparam, text

from tagmill.registry.models import Model
from tagmill.tasks.base import Task, task_named
from tagmill.tasks.metrics import GIVEN

#: characters of a value that groups are told apart by
MOST_OF_VALUE = 200

#: the images of a run that a model has a result for
TAGGED = """
tagged_entry AS tagged
{fixed} JOIN result ON result.image_id = tagged.image_id AND result.model_id = :model
"""
_ENTRIES = "{fixed} JOIN entry ON entry.run_id = :run AND entry.position = tagged.position"
#: A join whose left side is read first. SQLite would look the images of a run up in its batches, once for each entry.
_FIXED = {"postgresql": "INNER", "sqlite": "CROSS"}
#: the value of a further column of an entry as text; NULL if the entry has none
_VALUES = {
    "postgresql": f"left(entry.extra::json ->> CAST(:column AS text), {MOST_OF_VALUE})",
    # The operator ->> would read a name such as $.a as a path.
    "sqlite": f"""(
        SELECT substr(CASE WHEN type IN ('true', 'false') THEN type ELSE CAST(value AS TEXT) END, 1, {MOST_OF_VALUE})
        FROM json_each(entry.extra) WHERE key = :column
    )""",
}
_MASKS = "LEFT JOIN result_mask AS found ON found.image_id = tagged.image_id AND found.model_id = :model"
_SEVERAL = f"""
LEFT JOIN result_label AS found
ON found.image_id = tagged.image_id AND found.model_id = :model AND found.score >= {GIVEN}
"""

_WITHOUT_MEMOIZE = "SELECT set_config(name, 'off', true) FROM pg_settings WHERE name = 'enable_memoize'"


def look_each_image_up(connection: Connection) -> None:
    """Let PostgreSQL keep nothing of what it looks up until the end of the transaction.

    It does not know that the images of a run differ, and expects to find most of them in its memory: counting a run of
    a million took 1.8 s of CPU with it, and 0.9 s without.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_WITHOUT_MEMOIZE)


@dataclass(frozen=True)
class Given:
    """Where the labels that a model gave are: what is joined to `TAGGED`, and two columns of it."""

    join: str
    label: str
    score: str


def given(model: Model) -> Given:
    """Return where the labels of a model are, as `Task.given` chooses them.

    These are the best label of a classifier, the labels of a score of 0.5 or more of a model of several, and the labels
    of a segmenter's masks. An image without any has one row with NULL.
    """
    task: Task = task_named(model.task)
    if task.gives_masks:
        return Given(_MASKS, "found.label_id", "found.score")
    if task.multilabel:
        return Given(_SEVERAL, "found.label_id", "found.score")
    return Given("", "result.label_1", "result.score_1")


def value_of(dialect: str) -> str:
    """Return the expression for the value of the column `:column` of the table `entry`."""
    return _VALUES[dialect]


@dataclass(frozen=True)
class Column:
    """A further column of the entries, and the values whose entries are counted; None stands for no value."""

    name: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Grouping:
    """How images are grouped: a join, a condition, an expression for the group, and the parameters of all three."""

    dialect: str
    join: str
    condition: str
    group: str
    parameters: dict[str, object]

    def statement(self, sql: str) -> TextClause:
        """Return a statement in which `{join}`, `{condition}` and `{group}` stand for these."""
        fixed = _FIXED[self.dialect]
        join = self.join.format(fixed=fixed)
        made = text(sql.format(join=join, condition=self.condition, group=self.group, fixed=fixed))
        return made.bindparams(bindparam("values", expanding=True)) if "values" in self.parameters else made


def grouping(dialect: str, column: Column | None) -> Grouping:
    """Return how images are grouped by a column. Without one, all are in one group, whose name is NULL."""
    if column is None:
        return Grouping(dialect, "", "", "CAST(NULL AS TEXT)", {})
    value = value_of(dialect)
    named: Sequence[str] = [found for found in column.values if found is not None]
    condition = f"AND ({value} IN :values{f' OR {value} IS NULL' if None in column.values else ''})"
    return Grouping(dialect, _ENTRIES, condition, value, {"column": column.name, "values": named})
