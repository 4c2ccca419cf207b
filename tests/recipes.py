"""Short trainings for tests: the recipes' defaults with a few values changed."""

from dataclasses import fields, replace
from typing import TypeVar

from training.loop import Course

Hyper = TypeVar("Hyper")


def short(hyper: Hyper, **values: object) -> Hyper:
    """Return hyperparameters with some values, those of their course included, changed."""
    named = {field.name for field in fields(Course)}
    course = replace(hyper.course, **{name: values.pop(name) for name in list(values) if name in named})  # type: ignore[attr-defined]
    return replace(hyper, course=course, **values)  # type: ignore[type-var,call-overload]
