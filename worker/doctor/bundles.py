"""Whether the device works, and whether the bundles load on it and answer their golden samples: in child processes."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tagmill.device import Device
from tagmill.errors import BundleError, ConfigurationError, ServiceDown, first_line
from tagmill.ledger.fleet.needed import needed_models
from tagmill.registry.models import Model
from tagmill.registry.open_store import open_store
from tagmill.settings import Settings, load_settings
from worker.doctor.finding import Finding, Subject, error, ok, skipped
from worker.supervision.device_check import require_device

#: seconds in which all bundles must have been loaded: TensorRT builds its engines
_SECONDS = 280
_NOT_HERE = skipped("not installed here", "pip install 'tagmill[cpu]' or 'tagmill[gpu]', if workers are to run here")


def check_device(subject: Subject) -> Iterator[Finding]:
    """Yield whether TAGMILL_DEVICE works on this machine."""
    if not subject.runs_models:
        yield _NOT_HERE
        return
    device = subject.settings.device
    try:
        require_device(device, subject.settings.decode_on_gpu)
    except ConfigurationError as failure:
        yield error(first_line(failure), "mend the device, or set TAGMILL_DEVICE to another one")
    else:
        yield ok(f"TAGMILL_DEVICE={device} works")


def check(subject: Subject) -> Iterator[Finding]:
    """Yield on what each bundle in production runs here. A bundle that ends its process is found, too."""
    if not subject.runs_models:
        yield _NOT_HERE
        return
    store = open_store(subject.settings)
    for model in needed_models(subject.database()):
        try:
            path = store.verified(model.sha256)
        except (BundleError, ServiceDown):
            continue  # the check of the model store says so
        yield _loaded(model, path, subject.settings)


def _loaded(model: Model, path: Path, settings: Settings) -> Finding:
    command = [sys.executable, "-P", "-m", "worker.doctor.bundles", str(path), model.sha256, settings.device]
    advice = "make the bundle again, or mend the device; workers that load it are out"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return error(f"{model.title}: was not loaded within {_SECONDS} s", advice)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        found = json.loads(lines[-1])
        if found["wrong"]:
            return error(f"{model.title}: runs on {found['provider']}, not on {settings.device}", advice)
        golden = "its golden samples agree" if found["golden"] else "it has no golden samples"
        return ok(f"{model.title}: runs on {found['provider']}, {golden}")
    said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
    return error(f"{model.title}: {said[-1].removeprefix('error: ')}", advice)


def main(arguments: Sequence[str]) -> None:
    """Load a bundle as a worker does, and print what it runs on."""
    from worker.devices.provider_options import PROVIDER_OF
    from worker.devices.resolve import resolve_device
    from worker.inference.session_loader import load

    path, sha256, named = arguments
    settings = load_settings(device=named)
    try:
        device: Device = resolve_device(named)
        session = load(Path(path), sha256, settings, device)
    except (BundleError, ConfigurationError) as failure:
        sys.exit(f"error: {first_line(failure)}")
    wanted = PROVIDER_OF.get(device.kind, session.provider)
    facts = {"provider": session.provider, "golden": session.golden_difference is not None}
    print(json.dumps(facts | {"wrong": session.provider != wanted}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
