"""A loaded bundle: ONNX Runtime behind one call, on the provider that was asked for."""

import contextlib
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundle import INPUT, MASK, SCORES, BundleSpec, Task, sha256_of
from tagmill.errors import BundleError, ConfigurationError

# Creating sessions from several threads at once is not safe (onnxruntime issues 27063, 27089).
_creation = threading.Lock()

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Prediction:
    """Output for N images. `scores`: float32 [N, labels]; `mask`: uint8 [N, height, width], segmenters only."""

    scores: NDArray[np.float32]
    mask: NDArray[np.uint8] | None


class Session:
    """One bundle, loaded once and called from any thread.

    `device` is auto, cpu or cuda:N. With auto, CUDA is taken where ONNX Runtime sees a card. Asking for CUDA where it
    is not active raises ConfigurationError; ONNX Runtime itself would go on with the CPU.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int = 0) -> None:
        self.path = path
        self.sha256 = sha256_of(path)
        device = _resolve(device)
        with _creation:
            self._session = _create(path, device, threads)
        self.provider = str(self._session.get_providers()[0])
        if device != "cpu" and self.provider != CUDA:
            raise ConfigurationError(
                f"device {device}: ONNX Runtime gives {self.provider} for {path.name}, not CUDA; install tagmill[gpu] "
                "with its CUDA wheels, check nvidia-smi, or choose --device cpu"
            )
        self.spec = BundleSpec.from_metadata(dict(self._session.get_modelmeta().custom_metadata_map))
        _check_graph(self._session, self.spec, path)
        # A CUDA session has one stream: calls from two threads would only wait inside (onnxruntime issue 12049).
        self._turn = threading.Lock() if self.provider == CUDA else None

    def run(self, images: NDArray[np.uint8]) -> Prediction:
        """Infer uint8 [N, height, width, 3] RGB."""
        names = [SCORES, MASK] if self.spec.task is Task.SEGMENT else [SCORES]
        if self._turn is None:
            outputs = self._session.run(names, {INPUT: images})
        else:
            with self._turn:
                outputs = self._session.run(names, {INPUT: images})
        return Prediction(outputs[0], outputs[1] if len(outputs) > 1 else None)


def _resolve(device: str) -> str:
    if device == "auto":
        return "cuda:0" if _card_seen() else "cpu"
    return "cuda:0" if device == "cuda" else device


def _card_seen() -> bool:
    # get_available_providers() names CUDA on any machine with the gpu wheel; a card has a device file, too.
    return CUDA in ort.get_available_providers() and any(Path("/dev").glob("nvidia[0-9]*"))


def _create(path: Path, device: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4 if device != "cpu" else 3
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1 if device != "cpu" else threads or os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[str | tuple[str, dict[str, str]]] = [CPU]
    if device != "cpu":
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()  # CUDA and cuDNN come as wheels with tagmill[gpu], where the loader does not look
        cuda = {"device_id": device.partition(":")[2], "arena_extend_strategy": "kSameAsRequested"}
        providers.insert(0, (CUDA, cuda | {"cudnn_conv_algo_search": "HEURISTIC"}))
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # a missing provider is our own error
            return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises a family of its own without a common base
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error


def _check_graph(session: ort.InferenceSession, spec: BundleSpec, path: Path) -> None:
    shape = [spec.preprocess.height, spec.preprocess.width, 3]
    found = {entry.name: entry for entry in session.get_inputs()}
    if list(found) != [INPUT] or found[INPUT].type != "tensor(uint8)" or found[INPUT].shape[1:] != shape:
        raise BundleError(f"{path}: its input is not uint8 [N, {', '.join(map(str, shape))}]; export it again")
    needed = {SCORES, MASK} if spec.task is Task.SEGMENT else {SCORES}
    if missing := needed - {entry.name for entry in session.get_outputs()}:
        raise BundleError(f"{path}: the graph has no output {', '.join(sorted(missing))}; export it again")
