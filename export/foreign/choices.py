"""Decide how a foreign graph is used: what it says itself, what its tool wrote beside it, what the user says."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from export.foreign.graph_facts import INPUT_TYPES, GraphFacts, Layout
from export.foreign.labels import names_in_metadata
from export.foreign.outputs import fits, is_vector, named
from export.foreign.sidecars import Beside, read_sidecars
from tagmill.errors import InputError
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.base import Task
from tagmill.tasks.classify import CLASSIFY
from tagmill.tasks.embed import EMBED
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT

#: share of the short side that the evaluation of torchvision and timm keeps
CROP = 0.875
#: how most of torchvision's and timm's networks were trained: mean and standard deviation of pixels from 0 to 1
IMAGENET = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


class Activation(StrEnum):
    """What turns the graph's output into scores from 0 to 1."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    #: the output is scores already
    NONE = "none"


@dataclass(frozen=True)
class Options:
    """What the user says; None and () for what is to be read or guessed."""

    labels: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    layout: Layout | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    bgr: bool | None = None
    geometry: Geometry | None = None
    crop: float | None = None
    activation: Activation | None = None
    task: Task | None = None
    output: str | None = None
    embedding: str | None = None


@dataclass(frozen=True)
class Choices:
    """How a graph is used."""

    task: Task
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    layout: Layout
    #: pixels of 0..255 are multiplied by it, then the mean is taken off, and the rest is divided by the deviation
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool
    #: the output with the scores; None for the task `embed`
    output: str | None
    #: None: decided by the values of the output
    activation: Activation | None
    #: the output, or inner value, with the embedding; None: there is none
    embedding: str | None
    #: what was guessed, in words
    guesses: tuple[str, ...]


def choose(facts: GraphFacts, given: Options, path: Path) -> Choices:
    """Return how the graph is used. Raise InputError, which names the option, for what only the user knows."""
    guesses: list[str] = []
    _check_options(facts, given)
    beside = read_sidecars(path.parent)
    given = _completed(given, beside, guesses)
    labels = given.labels or names_in_metadata(facts.metadata)
    ultralytics = facts.metadata.get("task", "") if names_in_metadata(facts.metadata) else ""
    if ultralytics not in {"", "classify"}:
        raise InputError(f"{path}: is an Ultralytics model for {ultralytics}; only those for classify can be imported")
    layout = given.layout or facts.layout
    if layout is None:
        raise InputError(f"{path}: its shape does not show where the channels are; give --layout nchw or nhwc")
    _check_channels(facts, layout, path)
    task, output = _task_and_output(facts, given, labels, layout, path)
    if task.least_labels and not labels:
        raise InputError(f"{path}: does not name its labels; give --labels FILE with a label a line, in its order")
    geometry, crop = _geometry(given, layout, bool(ultralytics), guesses)
    height, width = _size(facts, given, layout, beside.size, path)
    scale, mean, std = _normalization(facts, given, bool(ultralytics), path, guesses)
    return Choices(
        task=task,
        labels=labels,
        preprocess=PreprocessSpec(height, width, geometry, crop),
        layout=layout,
        scale=scale,
        mean=mean,
        std=std,
        bgr=facts.bgr if given.bgr is None else given.bgr,
        output=output,
        activation=given.activation,
        embedding=given.embedding,
        guesses=tuple(guesses),
    )


def _check_options(facts: GraphFacts, given: Options) -> None:
    """Raise InputError for options that would change nothing."""
    if given.crop and given.geometry not in {None, Geometry.CENTER_CROP}:
        raise InputError(f"--crop {given.crop:g}: only --resize center-crop crops; leave one of them out")
    if INPUT_TYPES[facts.image.kind] == "uint8" and (given.mean or given.std or given.scale is not None):
        raise InputError("--mean, --std and --scale: the graph takes pixels of 0 to 255 as uint8; leave them out")


def _check_channels(facts: GraphFacts, layout: Layout, path: Path) -> None:
    shape = facts.image.shape or ()
    channels = shape[1 if layout is Layout.NCHW else 3]
    if channels not in {3, None}:
        raise InputError(
            f"{path}: its input {named((facts.image,))} has {channels} channels in the layout {layout}; only "
            "graphs of three can be imported"
        )


def _completed(given: Options, beside: Beside, guesses: list[str]) -> Options:
    """Fill in what files beside the graph say and the user does not, and say so."""
    found = replace(given, labels=given.labels or beside.labels, bgr=beside.bgr if given.bgr is None else given.bgr)
    if given.mean is None and given.std is None and given.scale is None and beside.scale is not None:
        found = replace(found, mean=beside.mean, std=beside.std, scale=beside.scale)
    if given.geometry is None and beside.geometry is not None and not (given.crop and beside.crop is None):
        found = replace(found, geometry=beside.geometry, crop=given.crop or beside.crop)
    if found != given or beside.size:
        guesses.append(
            f"{' and '.join(beside.files)} beside the graph: labels and how images are prepared are read there"
        )
    return found


def _task_and_output(
    facts: GraphFacts, given: Options, labels: tuple[str, ...], layout: Layout, path: Path
) -> tuple[Task, str | None]:
    if given.task is EMBED:
        if not given.embedding:
            raise InputError("--task embed needs --embedding OUTPUT; outputs are " + named(facts.outputs))
        return EMBED, None
    outputs = [value for value in facts.outputs if value.name != given.embedding]
    if given.output is not None:
        chosen = next((value for value in outputs if value.name == given.output), None)
        if chosen is None:
            raise InputError(f"--output {given.output}: the graph has {named(facts.outputs)}")
    else:
        fitting = [value for value in outputs if fits(value, len(labels), given.task)]
        if len(fitting) != 1:
            wanted = f"{len(labels)} labels" if labels else "labels"
            fit = f"{len(fitting)} of its outputs fit" if fitting else "none of its outputs fits"
            raise InputError(f"{path}: {fit} {wanted}; name one with --output: it has {named(facts.outputs)}")
        (chosen,) = fitting
    if given.task is not None:
        if given.task.gives_masks and chosen.shape is not None and len(chosen.shape) not in {3, 4}:
            raise InputError(f"--task {given.task}: the output {named((chosen,))} is not of pixels")
        return given.task, chosen.name
    if chosen.shape is not None and len(chosen.shape) >= 3 and not is_vector(chosen):
        return SEGMENT, chosen.name
    return (MULTILABEL if given.activation is Activation.SIGMOID else CLASSIFY), chosen.name


def _size(
    facts: GraphFacts, given: Options, layout: Layout, beside: tuple[int, int] | None, path: Path
) -> tuple[int, int]:
    shape = facts.image.shape or ()
    sides = shape[1:3] if layout is Layout.NHWC else shape[2:4]
    fixed = (sides[0], sides[1]) if sides[0] and sides[1] else None
    size = given.size or fixed or facts.size or beside
    if size is None:
        raise InputError(f"{path}: takes images of any size; give the one it was trained for with --input-size 224")
    if fixed and size != fixed:
        raise InputError(f"--input-size {size[0]}x{size[1]}: the graph takes {fixed[0]}x{fixed[1]} alone")
    return size


def _geometry(given: Options, layout: Layout, ultralytics: bool, guesses: list[str]) -> tuple[Geometry, float]:
    if given.geometry is not None:
        return given.geometry, (given.crop or CROP) if given.geometry is Geometry.CENTER_CROP else 1.0
    if ultralytics:
        return Geometry.CENTER_CROP, given.crop or 1.0
    if layout is Layout.NHWC and not given.crop:
        guesses.append("images are stretched to its size, as Keras does; --resize says otherwise")
        return Geometry.STRETCH, 1.0
    crop = given.crop or CROP
    guesses.append(f"the center of an image is cropped, {crop:g} of its short side, as torchvision and timm do; "
                   "--resize says otherwise")  # fmt: skip
    return Geometry.CENTER_CROP, crop


def _normalization(
    facts: GraphFacts, given: Options, ultralytics: bool, path: Path, guesses: list[str]
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    if given.mean is not None or given.std is not None or given.scale is not None:
        scale = given.scale
        if scale is None:
            scale = _usual_scale(given)
            levels = "0 to 1" if scale < 1 else "0 to 255"
            guesses.append(f"--mean and --std are of pixels from {levels}; --scale says otherwise")
        return scale, _three(given.mean, 0.0), _three(given.std, 1.0)
    if facts.range is not None:
        scale, mean, std = facts.range
        return scale, (mean,) * 3, (std,) * 3
    if ultralytics:
        return 1 / 255, (0.0,) * 3, (1.0,) * 3
    if INPUT_TYPES[facts.image.kind] == "uint8":
        return 1.0, (0.0,) * 3, (1.0,) * 3
    if facts.first_arithmetic:
        guesses.append(
            f"the graph begins with {facts.first_arithmetic} of a constant: it normalizes pixels itself, and gets "
            "levels of 0 to 255; --scale, --mean and --std say otherwise"
        )
        return 1.0, (0.0,) * 3, (1.0,) * 3
    raise InputError(
        f"{path}: does not say how pixels are normalized; give {IMAGENET} (torchvision, most of timm), "
        "--mean 0.5 --std 0.5, or --scale 1 for levels of 0 to 255"
    )


def _usual_scale(given: Options) -> float:
    """Return the scale that fits a mean and a deviation: none above 1 are shares, else levels of 0 to 255."""
    return 1.0 if max((*(given.mean or ()), *(given.std or ())), default=0.0) > 1.0 else 1 / 255


def _three(values: tuple[float, ...] | None, default: float) -> tuple[float, ...]:
    found = values or (default,)
    return tuple(found) * 3 if len(found) == 1 else tuple(found)
