"""On how many images two models agree: the same best label, or the same set of labels."""

from dataclasses import dataclass

from sqlalchemy import Engine

from tagmill.comparison.counts import count_pairs
from tagmill.comparison.images import shared_images
from tagmill.errors import InputError
from tagmill.registry.models import Model
from tagmill.tasks.base import Task, task_named
from tagmill.tasks.metrics import interval


@dataclass(frozen=True)
class Agreement:
    """Images that both models have a result of, and those of them with the same answer."""

    images: int = 0
    same: int = 0

    @property
    def share(self) -> float | None:
        """0 to 1; None of no image."""
        return self.same / self.images if self.images else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval (Wilson 1927)."""
        return interval(self.same / self.images, self.images) if self.images else (0.0, 1.0)


def compared_task(a: Model, b: Model) -> Task:
    """Return the task of both. Raise InputError if their answers cannot be compared."""
    if a.id == b.id:
        raise InputError(f"{a.title} is compared with itself; name two versions")
    if a.task != b.task:
        raise InputError(f"{a.title} is of the task {a.task}, {b.title} of {b.task}: nothing to compare")
    if not a.labels:
        raise InputError(f"{a.title} gives no labels, only embeddings: nothing to compare")
    return task_named(a.task)


def has_one_label(task: Task) -> bool:
    """Return whether an image has one best label, and not a set of labels."""
    return not task.gives_masks and not task.multilabel


def agreement(engine: Engine, a: Model, b: Model) -> Agreement:
    """Return on how many of the images that both have a result of two models agree. Raise as `compared_task` does."""
    images = same = 0
    if has_one_label(compared_task(a, b)):
        for found in count_pairs(engine, a, b):
            images += found.images
            same += found.images if found.label_a == found.label_b else 0
        return Agreement(images, same)
    for one in shared_images(engine, a, b):
        images += 1
        same += one.a.keys() == one.b.keys()
    return Agreement(images, same)
