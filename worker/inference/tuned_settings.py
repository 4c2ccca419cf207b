"""The settings that `tagmill bench` chose for a bundle on this machine; workers on this machine read them."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from tagmill.device import Device
from tagmill.errors import InputError
from tagmill.files import atomic_write
from tagmill.machine import cpu_name, usable_cores

log = logging.getLogger(__name__)

_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class TunedSettings:
    """Settings with which a bundle is fastest."""

    #: images of one call
    batch: int
    #: threads of one call
    threads: int
    #: calls at the same time
    parallel: int
    #: speed of inference alone
    images_per_second: float

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of range."""
        numbers = (self.batch, self.threads, self.parallel)
        if any(type(number) is not int or not 1 <= number <= 4096 for number in numbers):
            raise ValueError(f"{numbers} are no batch, threads and parallel calls")


@dataclass(frozen=True)
class Machine:
    """The machine, device and library that a choice is valid for."""

    device: str
    #: name and version of the library
    library: str
    cpu: str
    cores: int
    #: name of the GPU, or empty
    gpu: str


def this_machine(device: Device) -> Machine:
    """Return this machine with `device`, which must be resolved (not auto)."""
    gpu = _gpu_name(device.index) if device.on_gpu else ""
    return Machine(device.kind, _library(device.kind), cpu_name(), usable_cores(), gpu)


class TunedSettingsStore:
    """A folder with one small JSON file per bundle and machine, which several machines may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str, machine: Machine) -> Path:
        """Return the path of the file for a bundle, whether it exists or not."""
        key = hashlib.sha256(json.dumps([sha256, asdict(machine)]).encode()).hexdigest()
        return self._folder / f"{sha256[:12]}-{key[:12]}.json"

    def read(self, sha256: str, machine: Machine) -> TunedSettings | None:
        """Return the choice, or None if there is none. A file that cannot be read counts as none, with a warning."""
        path = self.path(sha256, machine)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["bundle"] != sha256 or found["machine"] != asdict(machine):
                raise ValueError("it is of another bundle or machine")
            return TunedSettings(**found["chosen"])
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            reason = f"{path}: not read ({error}); run tagmill bench again"
            fields = {"action": "tuned_settings_unreadable"}
            log.warning("a choice of tagmill bench cannot be read: %s", reason, extra=fields)
            return None

    def write(self, sha256: str, machine: Machine, tuned: TunedSettings) -> Path:
        """Write a choice; return its file. Raise InputError if the folder cannot be written to."""
        path = self.path(sha256, machine)
        text = json.dumps({"bundle": sha256, "machine": asdict(machine), "chosen": asdict(tuned)}, indent=1)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self._folder}: {error.strerror}; set TAGMILL_CACHE_FOLDER to another folder") from error
        return path


def _gpu_name(index: int) -> str:
    try:
        gpus = sorted(_GPUS.iterdir())
        lines = (gpus[index] / "information").read_text(encoding="utf-8").splitlines()
    except (OSError, IndexError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "")


@cache
def _library(kind: str) -> str:
    for package in ("openvino",) if kind == "openvino" else ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return ""
