"""Which outputs of a graph may be the scores of labels."""

from onnx import TensorProto

from export.foreign.graph_facts import Value
from tagmill.tasks.base import Task

#: element types of labels
WHOLE = {TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8}


def fits(value: Value, labels: int, task: Task | None) -> bool:
    """Return whether an output may be the scores of the labels, or a mask of them."""
    if value.shape is None:
        return True
    if task is not None and task.gives_masks != (len(value.shape) > 2 and not is_vector(value)):
        return False
    if len(value.shape) == 3:
        return value.kind in WHOLE or (task is not None and task.gives_masks)  # a label for each pixel
    channels = (value.shape[1],) if len(value.shape) == 2 or is_vector(value) else (value.shape[1], value.shape[-1])
    return len(value.shape) in {2, 4} and (not labels or None in channels or labels in channels)


def is_vector(value: Value) -> bool:
    """Return whether the shape is [N, C, 1, 1]."""
    return value.shape is not None and len(value.shape) == 4 and value.shape[2:] == (1, 1)


def named(values: tuple[Value, ...]) -> str:
    """Return names and shapes, in words."""
    return ", ".join(f"{value.name} {list(value.shape or ())}".replace("None", "?") for value in values)
