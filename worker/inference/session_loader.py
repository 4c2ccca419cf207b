"""Load a bundle with the values of the settings, else those chosen by `tagmill bench`, else the defaults."""

import logging
from dataclasses import dataclass
from pathlib import Path

from tagmill.device import Device
from tagmill.machine import usable_cores
from tagmill.settings import Settings
from worker.devices.provider_options import GpuOptions
from worker.inference.session import Session
from worker.inference.tuned_settings import TunedSettings, TunedSettingsStore, this_machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadOptions:
    """Options of one session."""

    #: of one call
    threads: int
    #: images of one call; 0: the session's default
    batch: int


def choose(settings: Settings, tuned: TunedSettings | None, cores: int) -> LoadOptions:
    """Return threads and images of one call. A setting other than 0 has priority over a tuned value."""
    shared = max(1, cores // settings.concurrency)
    threads = settings.inference_threads or (tuned.threads if tuned else shared)
    batch = settings.inference_batch or (tuned.batch if tuned else 0)
    return LoadOptions(threads, batch)


def gpu_options(settings: Settings) -> GpuOptions:
    """Return the GPU options of the settings."""
    return GpuOptions(settings.gpu_memory, settings.cuda_graphs, settings.cache_folder / "tensorrt")


def tuned_settings_store(settings: Settings) -> TunedSettingsStore:
    """Return the store of the choices of `tagmill bench`."""
    return TunedSettingsStore(settings.cache_folder / "tuned")


def load(path: Path, sha256: str, settings: Settings, device: Device, title: str | None = None) -> Session:
    """Load a bundle for a worker, and log its options, with the NAME@VERSION that it is registered as, if given.

    Raise what Session raises, and BundleError for wrong scores.
    """
    tuned = tuned_settings_store(settings).read(sha256, this_machine(device))
    choice = choose(settings, tuned, usable_cores())
    session = Session(path, str(device), choice.threads, choice.batch, gpu_options(settings))
    session.require_scores()
    named = {"model": title} if title else {}  # else a line within a batch has the models of the run
    log.info(
        "bundle loaded",
        extra={
            "action": "bundle_loaded",
            **named,
            "bundle": session.spec.name,
            "sha256": sha256,
            "provider": session.provider,
            "threads": session.threads,
            "inference_batch": session.best_batch,
            "parallel": session.parallel,
            "tuned": tuned is not None,
        },
    )
    return session
