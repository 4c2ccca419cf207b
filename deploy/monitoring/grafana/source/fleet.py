"""The dashboard of all workers and queues."""

from panels import GREEN, ORANGE, RED, choice, columns, dashboard, data_source, graph, prom, stat, table

#: gives a series of a worker its name instead of its address
_NAMED = '* on (instance) group_left (name) tagmill_worker_info{queue=~"$queue"}'
#: leaves the series of the workers of the chosen queues
_THEIRS = '* on (instance) group_left () tagmill_worker_info{queue=~"$queue"}'
_QUEUE = 'queue=~"$queue"'

_NOW = (
    stat(
        "Images per second",
        "Images with an outcome, of the workers of the queue. An image counts once, whatever the number of models.",
        prom(f"sum(rate(tagmill_batch_images_sum[$__rate_interval]) {_THEIRS})"),
        "suffix: img/s",
    ),
    stat(
        "Images that wait",
        "Images of batches that no worker has yet. Paused runs do not count.",
        prom(f'sum(tagmill_queue_images{{{_QUEUE}, status="queued"}}) or vector(0)'),
    ),
    stat(
        "Time to empty",
        "Images that wait and run, divided by the images per second of the last 5 minutes.",
        prom(
            f"""(sum(tagmill_queue_images{{{_QUEUE}}}) or vector(0))
                / (sum(queue:tagmill_batch_images:rate5m{{{_QUEUE}}}) > 0)"""
        ),
        "s",
    ),
    stat(
        "Oldest batch that waits",
        "How long the oldest batch has waited. A backfill may wait for days; urgent work must not.",
        prom(f"max(tagmill_oldest_queued_seconds{{{_QUEUE}}}) or vector(0)"),
        "s",
    ),
    stat(
        "Workers that are ready",
        "Workers that take batches, as they say in SQL. None, while work waits, is an alert.",
        prom(f'sum(tagmill_workers{{{_QUEUE}, state="ready"}}) or vector(0)'),
        thresholds=((None, RED), (1, GREEN)),
    ),
    stat(
        "Workers that are out",
        "Workers with a fault of their own: `tagmill worker list` names them.",
        prom(f"sum(tagmill_workers_out{{{_QUEUE}}}) or vector(0)"),
        thresholds=((None, GREEN), (1, ORANGE)),
    ),
    stat(
        "Failed in the last hour",
        "Share of images that failed, over all models and queues.",
        prom(
            """(sum(increase(tagmill_images_total{status="failed"}[1h])) or vector(0))
               / (sum(increase(tagmill_images_total[1h])) > 0)"""
        ),
        "percentunit",
        thresholds=((None, GREEN), (0.02, ORANGE), (0.05, RED)),
    ),
    stat(
        "Dead batches",
        "Batches that were given up. `tagmill run retry RUN` takes them again and empties this count.",
        prom(f"sum(tagmill_dead_batches{{{_QUEUE}}}) or vector(0)"),
        thresholds=((None, GREEN), (1, RED)),
    ),
    stat(
        "Runs that wait for a worker",
        "Runs that need a folder or a bundle that no worker has: their images fail soon.",
        prom("sum(tagmill_runs_waiting_for_worker) or vector(0)"),
        thresholds=((None, GREEN), (1, RED)),
    ),
    stat(
        "Alerts that fire",
        "Alerts of Tagmill. docs/monitoring.md says what each means and what to do.",
        prom('count(ALERTS{alertstate="firing", alertname=~"Tagmill.+"}) or vector(0)', now=True),
        thresholds=((None, GREEN), (1, RED)),
    ),
    stat(
        "Services",
        "0 if the exporter cannot reach PostgreSQL or Redis, else 1.",
        prom("min(tagmill_database_up) * min(tagmill_broker_up)"),
        thresholds=((None, RED), (1, GREEN)),
    ),
    stat(
        "Redis memory",
        "Of its maxmemory. When it is full, nothing can be queued. Empty if it has no limit.",
        prom("max(tagmill_broker_memory_bytes / (tagmill_broker_memory_limit_bytes > 0))"),
        "percentunit",
        thresholds=((None, GREEN), (0.8, ORANGE), (0.95, RED)),
    ),
)
_WORK = (
    graph(
        "Outcomes per second",
        "Images that were tagged or failed, by model: with two models an image counts twice.",
        prom(
            f"sum by (model, status) (rate(tagmill_images_total[$__rate_interval]) {_THEIRS})", "{{model}} {{status}}"
        ),
        unit="suffix: img/s",
        width=12,
        stack=True,
        by_status=True,
    ),
    graph(
        "Images in the queue",
        "Images that wait for a worker, and images of batches that a worker has.",
        prom(f"sum by (priority, status) (tagmill_queue_images{{{_QUEUE}}})", "{{priority}} {{status}}"),
        width=12,
        stack=True,
    ),
    graph(
        "Oldest batch that waits",
        "By priority. It grows while a large run is worked off, which is normal for backfills.",
        prom(f"max by (priority) (tagmill_oldest_queued_seconds{{{_QUEUE}}})", "{{priority}}"),
        unit="s",
    ),
    graph(
        "Runs",
        "Runs by state.",
        prom("sum by (state) (tagmill_runs)", "{{state}}"),
    ),
    graph(
        "Workers",
        "Workers by state, as they say in SQL, and those that are out, by reason.",
        prom(f"sum by (state) (tagmill_workers{{{_QUEUE}}})", "{{state}}"),
        prom(f"sum by (reason) (tagmill_workers_out{{{_QUEUE}}})", "out: {{reason}}"),
    ),
)
_STAGES = (
    graph(
        "Seconds of each stage (95th percentile)",
        "Of batches: 95 of 100 take less. `infer` includes the wait for the device.",
        prom(
            f"""histogram_quantile(0.95, sum by (stage, le) (
                rate(tagmill_stage_duration_seconds_bucket{{stage!="queue"}}[$__rate_interval]) {_THEIRS}))""",
            "{{stage}}",
        ),
        unit="s",
        width=12,
    ),
    graph(
        "Where the time goes",
        "Seconds that the workers of the queue spend in each stage, per second. The longest one is the bottleneck.",
        prom(
            f"""sum by (stage) (
                rate(tagmill_stage_duration_seconds_sum{{stage!="queue"}}[$__rate_interval]) {_THEIRS})""",
            "{{stage}}",
        ),
        unit="s",
        width=12,
        stack=True,
    ),
    graph(
        "Device busy",
        "Share of the time in which the device ran an inference. Far below 100 % on a GPU: it waits for images.",
        prom(f"rate(tagmill_device_busy_seconds_total[$__rate_interval]) {_NAMED}", "{{name}}"),
        unit="percentunit",
        defaults={"max": 1},
    ),
    graph(
        "Images of a batch",
        "Mean number of images in a batch. Small batches cost more SQL and messages for each image.",
        prom(
            f"""sum(rate(tagmill_batch_images_sum[$__rate_interval]) {_THEIRS})
                / (sum(rate(tagmill_batch_images_count[$__rate_interval]) {_THEIRS}) > 0)""",
            "mean",
        ),
    ),
    graph(
        "In work",
        "Images and batches that the workers of the queue have in hand.",
        prom(f"sum(tagmill_inflight_images {_THEIRS})", "images"),
        prom(f"sum(tagmill_inflight_batches {_THEIRS})", "batches"),
    ),
)
_TROUBLE = (
    graph(
        "Failed images by code",
        "docs/settings.md says what each code means.",
        prom("sum by (code) (rate(tagmill_image_errors_total[$__rate_interval]))", "{{code}}"),
        unit="suffix: img/s",
        width=6,
        stack=True,
    ),
    graph(
        "Attempts that ended without a result",
        "In the last 5 minutes, by reason. The batch is tried again.",
        prom("sum by (reason) (increase(tagmill_retries_total[5m]))", "{{reason}}"),
        width=6,
        style="bars",
        stack=True,
    ),
    graph(
        "Leases lost, restarts and outages",
        "In the last 5 minutes. A lost lease is a batch that was done twice; restarts are by exit code.",
        prom("sum(increase(tagmill_leases_lost_total[5m]))", "leases lost"),
        prom("sum by (code) (increase(tagmill_worker_restarts_total[5m]))", "restarts: {{code}}"),
        prom("sum by (service) (increase(tagmill_outages_total[5m]))", "outages: {{service}}"),
        width=6,
        style="bars",
    ),
    graph(
        "Alerts",
        "Alerts of Tagmill that fire. docs/monitoring.md says what each means and what to do.",
        prom('sum by (alertname) (ALERTS{alertstate="firing", alertname=~"Tagmill.+"})', "{{alertname}}"),
        width=6,
        stack=True,
    ),
)
_WORKERS = (
    table(
        "Workers",
        "What each worker is and does. `as asked`: 0 if it runs on another device than it was told to.",
        prom("tagmill_worker_info", table=True),
        prom("sum by (instance) (tagmill_worker_ready)", table=True),
        prom("sum by (instance) (tagmill_provider_as_asked)", table=True),
        prom("sum by (instance) (rate(tagmill_batch_images_sum[5m]))", table=True),
        prom("sum by (instance) (tagmill_memory_bytes)", table=True),
        prom("time() - (max by (instance) (tagmill_last_batch_timestamp_seconds) > 0)", table=True),
        prom("sum by (instance) (increase(tagmill_worker_restarts_total[1d]))", table=True),
        **columns(
            {
                "name": "worker",
                "queue": "queue",
                "instance": "address",
                "device": "device",
                "provider": "provider",
                "version": "version",
                "Value #B": "ready",
                "Value #C": "as asked",
                "Value #D": "images/s",
                "Value #E": "memory",
                "Value #F": "since last batch",
                "Value #G": "restarts in 24 h",
            },
            {"memory": "bytes", "since last batch": "s", "images/s": "short"},
        ),
    ),
    graph(
        "Memory of workers",
        "Share of the limit above which a worker process is restarted.",
        prom(f"tagmill_memory_bytes / tagmill_memory_limit_bytes {_NAMED}", "{{name}}"),
        unit="percentunit",
        width=12,
        defaults={"max": 1},
    ),
    graph(
        "Services that workers do not reach",
        "Number of workers that wait for the database or Redis.",
        prom(
            "count by (service) (tagmill_service_up == 0) or sum by (service) (tagmill_service_up) * 0", "{{service}}"
        ),
        width=12,
    ),
)
_SERVICES = (
    graph(
        "Redis memory",
        "What Redis uses, and its maxmemory.",
        prom("max(tagmill_broker_memory_bytes)", "used"),
        prom("max(tagmill_broker_memory_limit_bytes)", "maxmemory"),
        unit="bytes",
    ),
    graph(
        "Disks",
        "Share that is free, from node_exporter; empty without it.",
        prom(
            """min by (instance, device) (node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"}
               / node_filesystem_size_bytes{fstype!~"tmpfs|ramfs|overlay|squashfs"})""",
            "{{instance}} {{device}}",
        ),
        unit="percentunit",
        defaults={"max": 1},
    ),
    graph(
        "Seconds to read the database",
        "That the exporter takes for a scrape. Prometheus gives up at 10 s.",
        prom("max(tagmill_exporter_scrape_seconds)", "scrape"),
        unit="s",
        thresholds=((None, GREEN), (5, RED)),
    ),
)

DASHBOARD = dashboard(
    "tagmill-fleet",
    "Tagmill fleet",
    "All workers and queues: what waits, how fast it goes, where the time goes, what fails.",
    (
        data_source("datasource", "Prometheus", "prometheus", "tagmill-prometheus"),
        choice("queue", "Queue", "label_values(tagmill_workers, queue)", every=True),
    ),
    (
        ("Now", _NOW),
        ("Work", _WORK),
        ("Stages", _STAGES),
        ("Trouble of all queues", _TROUBLE),
        ("Workers", _WORKERS),
        ("Services", _SERVICES),
    ),
)
