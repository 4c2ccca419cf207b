"""The workers: whether there are any, and whether they are fit and of one version."""

from collections.abc import Iterator
from importlib.metadata import version

from tagmill.ledger.fleet.workers import Worker, WorkerState, list_workers
from worker.doctor.finding import Finding, Subject, error, ok, warning

#: kinds of devices, and the part of a provider's name that they must run on
_PROVIDERS = {"cuda": "CUDA", "tensorrt": "Tensorrt", "openvino": "OpenVINO"}


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the workers of this queue."""
    queue = subject.settings.queue
    workers = [worker for worker in list_workers(subject.database()) if worker.queue == queue]
    alive = [worker for worker in workers if worker.alive]
    ready = [worker for worker in alive if worker.state is WorkerState.READY]
    if not alive:
        yield warning(f"no worker of the queue {queue} runs", "start one: tagmill worker start")
    else:
        yield ok(f"workers of the queue {queue}: {len(alive)}, ready: {len(ready)}")
    for worker in alive:
        yield from _worker(worker)
    if lost := [worker.name for worker in workers if worker.state is WorkerState.LOST]:
        yield warning(
            f"lost within a day: {', '.join(lost)}", "look at their machines; if they were taken away, nothing"
        )
    if old := sorted({worker.version for worker in alive} - {version("tagmill")}):
        advice = "restart these workers with this version; see tagmill worker list"
        yield warning(f"workers of other versions run: {', '.join(old)}; this is {version('tagmill')}", advice)


def _worker(worker: Worker) -> Iterator[Finding]:
    if worker.state is WorkerState.OUT:
        yield error(f"{worker.name} is out: {worker.fault or 'its log says why'}", "mend it: it then goes on by itself")
    wanted = _PROVIDERS.get(worker.device.partition(":")[0], "")
    if worker.provider and wanted not in worker.provider:
        yield error(f"{worker.name} runs on {worker.provider}, not on {worker.device}", "look at its log, restart it")
