"""The dashboard of one run, from the views of SQL: Prometheus knows no runs, which would be series without end."""

from panels import ORANGE, bars, dashboard, data_source, graph, sql, sql_choice, stat, table

_RUN = "nullif(${run:sqlstring}, '')::int"
_OF_RUN = f"WHERE run_id = {_RUN}"


# Few queries: each reads all batches of the run, which may be a million.
_NOW = (
    stat(
        "Run",
        "Its state (queued, running, paused, done or cancelled), its models, and when it was submitted, in UTC.",
        sql(
            f"""SELECT state, priority, queue, models,
                    to_char(to_timestamp(created_at) AT TIME ZONE 'UTC', 'DD Mon HH24:MI') AS submitted
                FROM run_status {_OF_RUN}"""
        ),
        "string",
        width=24,
        text=True,
    ),
    stat(
        "Images",
        "Entries of the run. Failed ones are below, by code; `tagmill run retry RUN` takes them again.",
        sql(f"SELECT images, tagged, failed, images - tagged - failed AS pending FROM run_status {_OF_RUN}"),
        width=16,
        text=True,
    ),
    stat(
        "Done",
        "Share of the images that have an outcome.",
        sql(f"SELECT (tagged + failed)::float8 / nullif(images, 0) AS done FROM run_status {_OF_RUN}"),
        "percentunit",
    ),
    stat(
        "Seconds left",
        "At the pace of its last 5 minutes of work.",
        sql(
            f"""SELECT (status.images - status.tagged - status.failed)
                    / nullif(sum(progress.images) / 300.0, 0) AS seconds
                FROM run_status AS status LEFT JOIN run_progress AS progress
                    ON progress.run_id = status.run_id AND progress.finished_at > status.finished_at - 300
                WHERE status.run_id = {_RUN} GROUP BY status.images, status.tagged, status.failed"""
        ),
        "s",
    ),
)
_PROGRESS = (
    graph(
        "Images per second",
        "Images with an outcome. Zoom out if the run is older than the time range.",
        sql(
            f"""SELECT $__unixEpochGroupAlias(finished_at, $__interval, 0),
                    sum(tagged) / ($__interval_ms / 1000.0) AS tagged,
                    sum(images - tagged) / ($__interval_ms / 1000.0) AS failed
                FROM run_progress {_OF_RUN} AND $__unixEpochFilter(finished_at) GROUP BY 1 ORDER BY 1""",
            series=True,
        ),
        unit="suffix: img/s",
        width=12,
        stack=True,
        by_status=True,
    ),
    graph(
        "Progress",
        "Images with an outcome so far.",
        sql(
            f"""SELECT "time", sum(images) OVER (ORDER BY "time") AS done FROM (
                    SELECT $__unixEpochGroupAlias(finished_at, $__interval), sum(images) AS images
                    FROM run_progress {_OF_RUN} GROUP BY 1) AS found ORDER BY 1""",
            series=True,
        ),
        width=12,
    ),
    graph(
        "Seconds of a batch",
        "From its last claim to its results: the median and the 95th percentile.",
        sql(
            f"""SELECT $__unixEpochGroupAlias(finished_at, $__interval),
                    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median,
                    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS "95th percentile"
                FROM run_progress {_OF_RUN} AND $__unixEpochFilter(finished_at) GROUP BY 1 ORDER BY 1""",
            series=True,
        ),
        unit="s",
    ),
    graph(
        "Cores and GPUs at work",
        "Seconds of cores and of GPUs that its batches took, per second.",
        sql(
            f"""SELECT $__unixEpochGroupAlias(finished_at, $__interval),
                    sum(cpu_seconds) / ($__interval_ms / 1000.0) AS cores,
                    sum(gpu_seconds) / ($__interval_ms / 1000.0) AS "GPUs"
                FROM run_progress {_OF_RUN} AND $__unixEpochFilter(finished_at) GROUP BY 1 ORDER BY 1""",
            series=True,
        ),
    ),
    graph(
        "Attempts of a batch",
        "The largest number. More than 1: attempts failed, or workers died.",
        sql(
            f"""SELECT $__unixEpochGroupAlias(finished_at, $__interval), max(attempts) AS attempts
                FROM run_progress {_OF_RUN} AND $__unixEpochFilter(finished_at) GROUP BY 1 ORDER BY 1""",
            series=True,
        ),
    ),
)
_OUTCOMES = (
    bars(
        "Failures by code",
        "docs/settings.md says what each code means; `tagmill results RUN --status failed` lists the images.",
        sql(f"SELECT error_code, images FROM run_failures {_OF_RUN} ORDER BY images DESC"),
        thresholds=((None, ORANGE),),
    ),
    bars(
        "Batches",
        "By status. Dead ones were given up; the last reason is in `tagmill run status RUN`.",
        sql(
            f"""SELECT found.* FROM run_status CROSS JOIN LATERAL (VALUES ('queued', queued_batches),
                    ('running', running_batches), ('done', done_batches), ('dead', dead_batches),
                    ('cancelled', cancelled_batches)) AS found (status, batches) {_OF_RUN}"""
        ),
    ),
    table(
        "Drift",
        "Comparisons of this run with others: `tagmill drift RUN --reference OTHER`.",
        sql(
            f"""SELECT reference_id AS reference, model, group_value AS "group", label_psi AS "PSI of labels",
                    score_psi AS "PSI of scores", above AS "above its limit"
                FROM run_drift {_OF_RUN} AND (drifted OR number = 0) ORDER BY model, number LIMIT 50"""
        ),
        width=8,
    ),
)
_COST = (
    stat(
        "Time of CPUs and GPUs",
        "Seconds of all cores, of inference calls on GPUs, and of all cores for 1,000 images with an outcome.",
        sql(
            f"""SELECT cpu_seconds AS "CPU", gpu_seconds AS "GPU",
                    cpu_seconds * 1000 / nullif(images, 0) AS "CPU per 1,000 images"
                FROM run_cost {_OF_RUN}"""
        ),
        "s",
        width=12,
        text=True,
    ),
    stat("Fetched", "Bytes of all bodies.", sql(f"SELECT bytes_fetched FROM run_cost {_OF_RUN}"), "bytes"),
    stat(
        "Requests answered with 304",
        "Share of the requests that found an unchanged image.",
        sql(f"SELECT not_modified::float8 / nullif(requests, 0) AS share FROM run_cost {_OF_RUN}"),
        "percentunit",
    ),
    stat(
        "Inferences",
        "Results that were computed. The others were known from runs before.",
        sql(f"SELECT inferences FROM run_cost {_OF_RUN}"),
    ),
    table(
        "Who did what",
        "Submit, pause, cancel, retry and other changes of this run.",
        sql(
            f"""SELECT to_timestamp(at) AS "when", action, user_name AS "user", host, reason, details
                FROM audit_log {_OF_RUN} ORDER BY at DESC LIMIT 50"""
        ),
    ),
)

DASHBOARD = dashboard(
    "tagmill-run",
    "Tagmill run",
    "One run: how far it is, how fast it goes, what failed and what it cost. Read from the views of SQL.",
    (
        data_source("sql", "PostgreSQL", "grafana-postgresql-datasource", "tagmill-postgres"),
        sql_choice(
            "run",
            "Run",
            """SELECT run_id AS __value,
                   run_id || ': ' || source || to_char(to_timestamp(created_at), ' (DD Mon HH24:MI)') AS __text
               FROM run_status ORDER BY run_id DESC LIMIT 200""",
        ),
    ),
    (("Now", _NOW), ("Progress", _PROGRESS), ("Outcomes", _OUTCOMES), ("Cost and history", _COST)),
)
