"""Workers: what they do, and what they or runs lack."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, String, Table, Text, false

from tagmill.db.tables.base import metadata

#: A worker that runs or ran: what `tagmill worker list` shows. See `tagmill.ledger.fleet.workers`.
worker_state = Table(
    "worker_state",
    metadata,
    #: HOST:PID as in `worker_fault`
    Column("worker", String(200), primary_key=True),
    #: NAME@HOST, as Flower shows it
    Column("name", String(200), nullable=False),
    Column("queue", String(100), nullable=False),
    #: TAGMILL_DEVICE, and what ONNX Runtime or OpenVINO run on it, once a bundle is loaded
    Column("device", String(40), nullable=False),
    Column("provider", String(200)),
    #: NAME@VERSION of the bundles that are loaded, as a JSON list
    Column("models", JSON, nullable=False),
    #: of Tagmill
    Column("version", String(40), nullable=False),
    #: tagmill.ledger.fleet.workers.WorkerState: starting, ready, draining, out, stopped
    Column("state", String(12), nullable=False),
    #: whether `tagmill worker drain` asked it to take no more batches and to end
    Column("drain", Boolean, nullable=False, server_default=false()),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("last_batch_at", Double),
    #: since it started
    Column("batches", Integer, nullable=False, server_default="0"),
    Column("images", BigInteger, nullable=False, server_default="0"),
    #: images per second of the last minute
    Column("rate", Double, nullable=False, server_default="0"),
    Index(None, "queue", "seen_at"),
)

#: A worker that is out: it takes no batches until its fault is gone. See `tagmill.ledger.faults.workers`.
worker_fault = Table(
    "worker_fault",
    metadata,
    #: HOST:PID of what starts its processes: its supervisor, or another parent
    Column("worker", String(200), primary_key=True),
    Column("queue", String(100), nullable=False),
    #: tagmill.ledger.faults.workers.FaultReason
    Column("reason", String(20), nullable=False),
    #: what is wrong and what to do
    Column("detail", Text, nullable=False),
    Column("since", Double, nullable=False),
    #: when the worker last found the fault; one that was ended reports nothing any more
    Column("seen_at", Double, nullable=False),
)

#: What a run needs and a worker lacked: a folder of its images, or a bundle. See `tagmill.ledger.faults.runs`.
run_fault = Table(
    "run_fault",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), primary_key=True),
    #: sha256 of the bundle, or of the folder's path
    Column("subject", String(64), primary_key=True),
    #: tagmill.ledger.faults.workers.FaultReason
    Column("reason", String(20), nullable=False),
    Column("detail", Text, nullable=False),
    #: a file that was not found below the folder
    Column("path", Text),
    #: when it was lacked first and last, and when a worker last had it
    Column("since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("found_at", Double),
    #: no worker has it: until then the batches that need it wait. After that, they fail.
    Column("held_until", Double),
)
