"""Which models of two runs are compared with each other."""

from collections.abc import Sequence

from sqlalchemy import Engine

from producer.output.read.models import run_models
from tagmill.errors import InputError
from tagmill.registry.models import Model, resolve
from tagmill.text import normalize

#: the model of the run, and that of the reference
Pair = tuple[Model, Model]


def compared_models(engine: Engine, run_id: int, reference: int, wanted: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Return the models of both runs, by name, and what a reader must know of them.

    `wanted` are NAME or NAME@VERSION; without any, all names that both runs have. Of several versions in a run the
    newest is taken. Raise InputError if there is none, or no such model.
    """
    sides = (run_models(engine, run_id), run_models(engine, reference))
    if not wanted:
        common = {found.name for found in sides[0]} & {found.name for found in sides[1]}
        if not common:
            has = f"run {run_id} has {_titles(sides[0])}, run {reference} has {_titles(sides[1])}"
            raise InputError(f"runs {run_id} and {reference} have no model in common: {has}")
        notes = _only_in_one(run_id, sides[0], common) + _only_in_one(reference, sides[1], common)
        wanted = sorted(common)
    else:
        notes = []
    pairs: dict[tuple[int, int], Pair] = {}
    for name in wanted:
        pair = (_chosen(engine, sides[0], name), _chosen(engine, sides[1], name))
        ids = (pair[0].id, pair[1].id)
        if ids not in pairs:  # NAME and NAME@VERSION may be the same model
            _check_alike(pair)
            pairs[ids] = pair
            notes += _versions(name, pair, sides, (run_id, reference))
    return list(pairs.values()), notes


def _chosen(engine: Engine, pinned: Sequence[Model], wanted: str) -> Model:
    """Return the newest of the pinned models that fits.

    Another model, which the run was not submitted with, may have results for its images, too.
    """
    fitting = [found for found in pinned if normalize(wanted) in (found.name, found.title)]
    return fitting[-1] if fitting else resolve(engine, wanted)


def _check_alike(pair: Pair) -> None:
    now, before = pair
    if now.task != before.task:
        raise InputError(f"{now.title} is of the task {now.task}, {before.title} of {before.task}: nothing to compare")


def _versions(name: str, pair: Pair, sides: tuple[Sequence[Model], ...], runs: tuple[int, int]) -> list[str]:
    notes = []
    for number, side, chosen in zip(runs, sides, pair, strict=True):
        several = [found.version for found in side if found.name == chosen.name]
        if len(several) > 1 and "@" not in name:
            listed = " and ".join(map(str, several))
            notes.append(
                f"run {number} has versions {listed} of {chosen.name}: {chosen.version} is compared. "
                f"For another one, say --model {chosen.name}@{several[0]}"
            )
    now, before = pair
    if now.version != before.version:
        notes.append(
            f"run {runs[0]} has {now.title}, run {runs[1]} has {before.title}: "
            "what differs may come from the model, not from the images"
        )
    return notes


def _only_in_one(number: int, side: Sequence[Model], common: set[str]) -> list[str]:
    others = [found for found in side if found.name not in common]
    return [f"only run {number} has {_titles(others)}: not compared"] if others else []


def _titles(models: Sequence[Model]) -> str:
    return ", ".join(found.title for found in models) or "none"
