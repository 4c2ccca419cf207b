"""Read what Hugging Face's and timm's files beside a graph say: labels, and how images are prepared.

The keys are those of the image processors of transformers and of `pretrained_cfg` of timm.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.foreign.labels import labels_of
from tagmill.errors import InputError
from tagmill.images.preprocess import Geometry

#: files that tools write beside a graph
SIDECARS = ("preprocessor_config.json", "config.json")
#: short side from which on ConvNeXt's processor crops nothing
UNCROPPED = 384


@dataclass(frozen=True)
class Beside:
    """What the files say; None, () and so on for what they do not."""

    #: names of the files that say something
    files: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    #: height and width
    size: tuple[int, int] | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    bgr: bool | None = None
    geometry: Geometry | None = None
    #: share of the short side that a center crop keeps
    crop: float | None = None


def read_sidecars(folder: Path) -> Beside:
    """Return what the files in a folder say; of two that say the same, the first counts.

    Raise InputError for a value that cannot be understood.
    """
    found = Beside()
    for name in SIDECARS:
        try:
            content: Any = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # there is none, or it is of something else
        if not isinstance(content, dict):
            continue
        try:
            told = {key: value for key, value in _told(content).items() if value not in {None, ()}}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder / name}: is not understood ({error!r}); move it away, and say with options how images are "
                "prepared"
            ) from error
        new = {key: value for key, value in told.items() if getattr(found, key) in {None, ()}}
        if new:
            found = replace(found, files=(*found.files, name), **new)
    return found


def _told(content: dict[str, Any]) -> dict[str, Any]:
    timm = content.get("pretrained_cfg")
    told = _of_timm(timm) if isinstance(timm, dict) else _of_processor(content)
    return told | {"labels": _labels(content)}


def _of_timm(config: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if config.get("mean") and config.get("std"):
        told |= {"scale": 1 / 255, "mean": _numbers(config["mean"]), "std": _numbers(config["std"])}
    if config.get("crop_pct"):
        told |= {"geometry": Geometry.CENTER_CROP, "crop": min(1.0, float(config["crop_pct"]))}
    if config.get("input_size"):
        told["size"] = (int(config["input_size"][1]), int(config["input_size"][2]))
    return told


def _of_processor(config: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if config.get("image_mean") and config.get("image_std"):
        told["scale"] = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        normalizes = config.get("do_normalize", True)
        told["mean"] = _numbers(config["image_mean"]) if normalizes else (0.0,)
        told["std"] = _numbers(config["image_std"]) if normalizes else (1.0,)
    elif config.get("do_rescale") and not config.get("do_normalize"):
        told |= {"scale": float(config.get("rescale_factor", 1 / 255)), "mean": (0.0,), "std": (1.0,)}
    if config.get("do_flip_channel_order"):
        told["bgr"] = True
    return told | _fitting(config)


def _fitting(config: dict[str, Any]) -> dict[str, Any]:
    """Return size, geometry and crop."""
    size = config.get("size")
    sides, short = _sides(size), _short_side(size)
    if config.get("do_center_crop"):
        cropped = _sides(config.get("crop_size")) or sides
        crop = min(1.0, cropped[0] / short) if cropped and short else 1.0
        return {"size": cropped, "geometry": Geometry.CENTER_CROP, "crop": crop}
    if "crop_pct" in config and config["crop_pct"] and short:  # ConvNeXt
        if short >= UNCROPPED:
            return {"size": (short, short), "geometry": Geometry.STRETCH}
        return {"size": (short, short), "geometry": Geometry.CENTER_CROP, "crop": float(config["crop_pct"])}
    return {"size": sides, "geometry": Geometry.STRETCH if config.get("do_resize") else None}


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and "height" in size and "width" in size:
        return int(size["height"]), int(size["width"])
    return None


def _short_side(size: Any) -> int | None:
    if isinstance(size, dict) and size.get("shortest_edge"):
        return int(size["shortest_edge"])
    sides = _sides(size)
    return min(sides) if sides else None


def _numbers(values: Any) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if len(found) != 3:
        raise ValueError(f"{len(found)} numbers for three channels")
    return found


def _labels(content: dict[str, Any]) -> tuple[str, ...]:
    if "id2label" not in content and "label_names" not in content:
        return ()
    try:
        return labels_of(content)
    except ValueError:
        return ()  # none that can be used: --labels is asked for
