"""A loaded bundle: ONNX Runtime behind one call, on the provider that was asked for."""

import contextlib
import os
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tagmill.bundle import GOLDEN, INPUT, MASK, SCORES, TOP_LABELS, TOP_SCORES, BundleSpec, Task, sha256_of
from tagmill.errors import BundleError, ConfigurationError
from tagmill.golden import GoldenSamples
from worker.calls import Calls
from worker.self_check import check_answers, tolerance

# Creating sessions from several threads at once is not safe (onnxruntime issues 27063, 27089).
_creation = threading.Lock()

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Prediction:
    """Output for N images. `scores`: float32 [N, labels]; `mask`: uint8 [N, height, width], segmenters only.

    With `labels`, int64 [N, K], the scores are the best K alone, best first, and each is of the label beside it.
    """

    scores: NDArray[np.float32]
    mask: NDArray[np.uint8] | None
    labels: NDArray[np.int64] | None = None


class Session:
    """One bundle, loaded once and called from any thread.

    `device` is auto, cpu or cuda:N. With auto, CUDA is taken where ONNX Runtime sees a card. Asking for CUDA where it
    is not active raises ConfigurationError; ONNX Runtime itself would go on with the CPU. A bundle whose golden samples
    come out otherwise than where it was made raises BundleError.
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
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self.spec = BundleSpec.from_metadata(metadata)
        #: labels that the graph itself picks out; 0 where it gives all scores only
        self.top_k = _check_graph(self._session, self.spec, path)
        # A CUDA session has one stream: calls from two threads would only wait inside (onnxruntime issue 12049).
        self._turn = threading.Lock() if self.provider == CUDA else None
        self.calls = Calls()
        #: images that one call may hold, once a larger one ran out of memory
        self.largest_call: int | None = None
        #: how far the golden samples are off here, or None where the bundle has none
        self.golden_difference = self._check_golden(metadata[GOLDEN]) if GOLDEN in metadata else None

    def run(self, images: NDArray[np.uint8], best_only: bool = False) -> Prediction:
        """Infer uint8 [N, height, width, 3] RGB. With `best_only` a graph that picks labels gives those alone.

        Raises StalledCallError where `calls` cut it off, and what ONNX Runtime raises.
        """
        if self.spec.task is Task.SEGMENT:
            scores, mask = self._outputs([SCORES, MASK], images)
            return Prediction(scores, mask)
        if best_only and self.top_k:
            scores, labels = self._outputs([TOP_SCORES, TOP_LABELS], images)
            return Prediction(scores, None, labels)
        return Prediction(self._outputs([SCORES], images)[0], None)

    def _outputs(self, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        with self._turn or contextlib.nullcontext(), self.calls.running() as options:
            outputs: list[NDArray[Any]] = self._session.run(names, {INPUT: images}, options)
            return outputs

    def _check_golden(self, text: str) -> float:
        golden = GoldenSamples.from_text(text, self.spec)
        allowed = tolerance(self.spec.precision, self.provider == CPU)
        try:
            found = self.run(golden.images)
        except Exception as error:  # onnxruntime raises a family of its own without a common base
            raise BundleError(f"{self.path}: on {self.provider} it fails: {str(error).splitlines()[0]}") from error
        return check_answers(self.path, self.provider, golden, found.scores, found.mask, allowed)


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
    # A bundle is one file, which its sha256 names. Weights in other files are looked for where nothing can be.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path / "none"))
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
        if "external data" in str(error).lower():
            raise BundleError(
                f"{path}: its weights lie in another file; a bundle is one file: export it again"
            ) from error
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error


def _check_graph(session: ort.InferenceSession, spec: BundleSpec, path: Path) -> int:
    """Return how many labels the graph picks out itself, or 0. Raises BundleError where it is no graph of `spec`."""
    shape = [spec.preprocess.height, spec.preprocess.width, 3]
    found = {entry.name: entry for entry in session.get_inputs()}
    if list(found) != [INPUT] or found[INPUT].type != "tensor(uint8)" or found[INPUT].shape[1:] != shape:
        raise BundleError(f"{path}: its input is not uint8 [N, {', '.join(map(str, shape))}]; export it again")
    outputs = {entry.name: entry for entry in session.get_outputs()}
    needed = {SCORES, MASK} if spec.task is Task.SEGMENT else {SCORES}
    if TOP_SCORES in outputs:
        needed.add(TOP_LABELS)
    if missing := needed - set(outputs):
        raise BundleError(f"{path}: the graph has no output {', '.join(sorted(missing))}; export it again")
    return int(outputs[TOP_SCORES].shape[1]) if TOP_SCORES in outputs else 0
