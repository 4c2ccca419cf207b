"""Check in a child process that the requested device is active."""

import subprocess
import sys

from tagmill.bundles.starter import starter_bundles
from tagmill.errors import ConfigurationError
from worker.devices.provider_options import has_gpu

#: seconds for a first CUDA context on a busy machine, or for TensorRT to build its engines
PROBE_SECONDS = 600


def require_device(device: str, decode_on_gpu: bool = False) -> None:
    """Raise ConfigurationError if `device` is CUDA, TensorRT or OpenVINO and a session does not run on it.

    auto is checked, too, on a machine with a GPU: otherwise a worker with a broken GPU would fail one batch after the
    other, faster than other workers can take them. With `decode_on_gpu` the GPU must also decode JPEGs.

    Only a session shows whether the device works, and a CUDA context must not exist before a pool forks. So the session
    is created in a child process.
    """
    if (device == "cpu" or (device == "auto" and not has_gpu())) and not decode_on_gpu:
        return
    probe = [sys.executable, "-P", "-m", "worker.supervision.device_check", device]
    probe += ["decode"] if decode_on_gpu else []
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"device {device}: no session within {PROBE_SECONDS} s; is its GPU free?") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["the check printed no reason"]
        raise ConfigurationError(lines[-1].removeprefix("error: "))


def probe(device: str, decode: str = "") -> None:
    """Exit with an error if a session does not run on `device`, or if `decode` is given and its GPU decodes no JPEG."""
    # Only the child process loads OpenVINO, CUDA or nvImageCodec.
    from worker.inference.session import Session
    from worker.pipeline.gpu_jpeg_decoder import gpu_jpeg_decoder

    try:
        if decode:  # first, as in a worker, which creates its sessions when its first batch needs them
            gpu_jpeg_decoder(device).check()
        Session(starter_bundles()[0], device)
    except ConfigurationError as error:  # also BundleError: the golden samples' answers are wrong on this device
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    probe(*sys.argv[1:])
