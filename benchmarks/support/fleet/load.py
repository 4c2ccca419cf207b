"""What `benchmarks.worker.fleet` asks of the servers, and what its workers share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """The workers, and the images of a round."""

    workers: int
    #: processes that the workers are spread over
    processes: int
    #: batches that one worker has in work at the same time
    concurrency: int
    images: int
    batch_size: int
    #: runs that the images are split into
    runs: int
    #: masks per image
    masks: int
    #: wait of a batch in the mean, as for a GPU
    think_ms: float

    @property
    def in_work(self) -> int:
        """The number of batches that all workers have in work at the same time."""
        return self.workers * self.concurrency


@dataclass(frozen=True)
class Servers:
    """The URLs of PostgreSQL (of any of its databases) and of Redis, and the process ids of those that were started."""

    database: str
    broker: str
    processes: dict[str, list[int]]


@dataclass(frozen=True)
class Place:
    """Where a worker finds its work: the database, the broker, the queue, and the sha256 of the model."""

    database_url: str
    broker_url: str
    queue: str
    model: str
