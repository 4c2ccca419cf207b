"""Checks that the device asked for is really active, in a process of its own."""

import subprocess
import sys

from tagmill.bundles.starter import starter_bundles
from tagmill.errors import ConfigurationError
from worker.devices.provider_options import has_gpu

#: seconds for a first CUDA context on a busy machine, or for TensorRT to build its engines
PROBE_SECONDS = 600


def require_device(device: str, decode_on_gpu: bool = False) -> None:
    """Raise ConfigurationError where `device` asks for CUDA, TensorRT or OpenVINO and a session does not get it.

    So does auto on a machine with a GPU: one that broke would else fail batch after batch, sooner than other workers
    can take them. With `decode_on_gpu` the GPU has to decode JPEGs, too.

    Only a session itself tells the truth, and a CUDA context must not exist before a pool forks: so the
    session is made in a child process.
    """
    if (device == "cpu" or (device == "auto" and not has_gpu())) and not decode_on_gpu:
        return
    probe = [sys.executable, "-m", "worker.devices.device_check", device, *(["decode"] if decode_on_gpu else [])]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"device {device}: no session within {PROBE_SECONDS} s; is its GPU free?") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["the probe ended without a word"]
        raise ConfigurationError(lines[-1].removeprefix("error: "))


def _probe(device: str, decode: str = "") -> None:
    # only the child process loads ONNX Runtime, OpenVINO or nvImageCodec
    from worker.inference.session import Session
    from worker.pipeline.gpu_jpeg_decoder import gpu_jpeg_decoder

    try:
        if decode:  # first, as in a worker, which makes its sessions for the bundles of its first batch
            gpu_jpeg_decoder(device).check()
        Session(starter_bundles()[0], device)
    except ConfigurationError as error:  # a BundleError, too: on this device the golden samples come out wrong
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _probe(*sys.argv[1:])
